"""The usage of a command is that of `make`, with the variables that the Makefile passes on."""

import argparse
import re
import subprocess
import sys

import pytest

from fedpipe.command_line import make_command
from tests import ROOT


def test_options_go_into_args_and_positional_arguments_into_variables() -> None:
    parser = argparse.ArgumentParser(**make_command("score", "FOLDER"))
    parser.add_argument("folder")
    assert parser.format_usage() == "usage: make score FOLDER=...\n"
    parser.add_argument("--output")
    assert parser.format_usage() == 'usage: make score FOLDER=... ARGS="[--output OUTPUT]"\n'
    assert "folder" in parser.format_help()  # in the list of arguments


def test_a_subcommand_is_a_part_of_args() -> None:
    parser = argparse.ArgumentParser(**make_command("incoming"))
    release = parser.add_subparsers().add_parser("release", **make_command("incoming release"))
    release.add_argument("name")
    assert release.format_usage() == 'usage: make incoming ARGS="release name"\n'
    assert parser.format_usage() == 'usage: make incoming ARGS="{release} ..."\n'


@pytest.mark.parametrize(
    ("module", "usage"),
    [
        ("sync --nope", "make sync\n"),
        ("report --nope", 'make report RUNS=... ARGS="[--output OUTPUT] [--markdown MARKDOWN]"\n'),
        ("retrain.kept pack", "make keep-state FOLDER=...\n"),
    ],
)
def test_a_wrong_argument_shows_the_make_command(module: str, usage: str) -> None:
    command = [sys.executable, "-m", *f"operations.{module}".split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {usage}")


def test_every_usage_names_a_make_command_or_the_module() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in sorted((ROOT / "operations").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r'make_command\("([a-z-]+)', text))
        assert named <= targets, path
        parsers = re.findall(r"ArgumentParser\((.*?)\n?\s*\)\n", text, re.DOTALL)
        assert all("make_command(" in parser or 'prog="python -m operations.' in parser for parser in parsers), path
