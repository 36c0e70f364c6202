"""A stage reads params.yaml and nothing else: arguments, which it would ignore, are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

STAGES = ("download", "partition", "train", "evaluate")


def stage(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", STAGES)
def test_arguments_are_refused(tmp_path: Path, name: str) -> None:
    done = stage(tmp_path, name, "--rounds", "3")
    message = (
        f"error: `python -m stages.{name}` takes no arguments, but was given --rounds 3: set params in params.yaml\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
    assert not list(tmp_path.iterdir())


def test_help_says_what_it_is(tmp_path: Path) -> None:
    done = stage(tmp_path, "train", "--help")
    assert done.returncode == 0 and "trains the global model over the clients' shards" in done.stdout
