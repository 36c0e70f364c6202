"""What is said where git is missing, or where the folder is no git repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.tracking.git_state import git_tags
from operations import commands
from tests import ROOT

MODULES = ("operations.provenance verify", "operations.retrain.publish", "operations.report HEAD")


def run(folder: Path, module: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path or os.environ["PATH"]}
    # A folder above the test's may be a repository.
    environment |= {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(
        [sys.executable, "-m", *module.split()], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("module", MODULES)
def test_no_git_repository_is_said(tmp_path: Path, module: str) -> None:
    done = run(tmp_path, module)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert f"{tmp_path} is not in a git repository: use a `git clone` of the project" in done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_git_is_said(tmp_path: Path, module: str) -> None:
    done = run(tmp_path, module, path=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "git is not installed, or not on the PATH: install it" in done.stderr


def test_of_what_git_says_the_error_is_told_and_not_its_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nprintf 'warning: odd\nfatal: the reason\nhint: do this\n' >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(commands.PipelineError, match=r"`git log` failed: fatal: the reason$"):
        commands.git("log")
    assert set(git_tags([]).values()) == {"unknown: the reason"}


def test_a_token_in_an_address_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho \"fatal: unable to access 'https://ci:secret@git.example/a/'\" >&2\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(commands.PipelineError, match=r"`git push https://git\.example/a` failed: ") as error:
        commands.git("push", "https://ci:secret@git.example/a")
    assert "secret" not in str(error.value)


def test_what_git_says_is_understood_in_any_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(commands.PipelineError, match="is not in a git repository"):
        commands.require_repository()
