"""What `make` hands on to a command: all of it, and past the shell where a person types text of any kind."""

import re
from pathlib import Path

import pytest

from tests.test_environment import ROOT, checkout, installed, run, script  # noqa: F401


@pytest.fixture
def arguments(installed: Path) -> Path:  # noqa: F811
    """A checkout whose Python prints its arguments, one per line."""
    script(installed / ".venv/bin/python", 'printf "<%s>\\n" "$@"')
    return installed


@pytest.mark.parametrize(
    "folder", ["pngs", "it's mine", "$(touch touched) `touch touched` $HOME", "a;touch touched", "-odd", 'a "b" \\c']
)
def test_score_gets_any_folder_as_it_was_typed(arguments: Path, folder: str) -> None:
    result = run(arguments, "make", "score", f"FOLDER={folder}", "ARGS=--output a.csv")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"<{part}>" for part in ("-m", "operations.score", "--output", "a.csv", "--", folder)
    ]
    assert not (arguments / "touched").exists()
    assert run(arguments, "make", "score", FOLDER=folder).stdout.splitlines()[-1] == f"<{folder}>"


def test_score_without_a_folder_has_no_argument(arguments: Path) -> None:
    assert run(arguments, "make", "score").stdout.splitlines() == ["<-m>", "<operations.score>"]


@pytest.mark.parametrize("target", ["ui", "serve", "server"])
def test_args_reach_the_commands_that_listen(arguments: Path, target: str) -> None:
    result = run(arguments, "make", target, "ARGS=--port 5055")
    assert result.stdout.splitlines() == ["<-m>", f"<operations.{target}>", "<--port>", "<5055>"]


def test_a_secret_that_is_empty_is_none(installed: Path) -> None:  # noqa: F811
    script(installed / ".venv/bin/python", "env")
    environment = {
        "AWS_DEFAULT_REGION": "",
        "AWS_SESSION_TOKEN": "$x",
        "MLFLOW_TRACKING_URI": "",
        "MLFLOW_TRACKING_TOKEN": "b",
    }
    names = {line.partition("=")[0] for line in run(installed, "make", "retrain", **environment).stdout.splitlines()}
    assert environment.keys() & names == {"AWS_SESSION_TOKEN", "MLFLOW_TRACKING_TOKEN"}


def test_the_commands_that_make_runs_exist() -> None:
    named = set(re.findall(r"python -m ((?:operations|stages|fedpipe)[.\w]*)", (ROOT / "Makefile").read_text()))
    for module in named:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
