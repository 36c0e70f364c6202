"""A small project with a git remote, in which the test stands, and its GitHub."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import RECIPE
from tests.github_repository import GitHub


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit with params, a champion's marker and the results of two rounds, pushed to a bare repository."""
    for name in ("FEDPIPE_EXPERIMENT", "FEDPIPE_JOB", "FEDPIPE_WEBHOOK", "GITHUB_STEP_SUMMARY", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@a.a")
    folder = tmp_path / "project"
    for name in ("metrics", "models", "reports", "plots"):
        (folder / name).mkdir(parents=True)
    shutil.copy(RECIPE / "params.yaml", folder)
    (folder / "models/champion.json").write_text('{"weights_sha256": "abc"}')
    (folder / "metrics/training.json").write_text('{"weights_sha256": "abc", "rounds": 2}')
    (folder / "metrics/rounds.csv").write_text("round,train_loss,test_accuracy\n1,1.0,0.5\n2,0.9,0.6\n")
    (folder / ".gitignore").write_text("/reports/\n/plots/\n")
    monkeypatch.chdir(folder)
    for command in (
        ["init", "-q", "--bare", "-b", "main", str(tmp_path / "remote")],
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["commit", "-qm", "first"],
        ["remote", "add", "origin", str(tmp_path / "remote")],
        ["push", "-q", "origin", "main"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def github(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """Its GitHub, and the environment of a run of the weekly workflow."""
    repository = GitHub(tmp_path / "github", tmp_path / "remote")
    for name, value in repository.environment(repository.start_run()).items():
        monkeypatch.setenv(name, value)
    return repository
