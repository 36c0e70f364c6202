"""Pictures on a branch of their own, linked by the commit that has them."""

import subprocess
from pathlib import Path

import pytest

from operations.tell import pictures
from operations.tell.pictures import publish_pictures
from tests.github_repository import GitHub
from tests.operations.tell.test_tell import outcome


def git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tip(project: Path) -> str:
    return git(project, "ls-remote", "origin", "refs/heads/retrain-reports").partition("\t")[0]


@pytest.fixture
def retrained(project: Path, github: GitHub) -> Path:
    (project / "metrics/rounds.csv").write_text("round,train_loss,test_accuracy\n1,0.9,0.6\n2,0.8,0.7\n")
    (project / "reports/drift.png").write_bytes(b"a picture")
    return project


def test_each_week_has_a_folder_and_links_by_commit(retrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = git(retrained, "status", "--porcelain"), git(retrained, "count-objects")
    shown = publish_pictures(outcome(48, new_batches=["week-48"]), "origin")
    first = tip(retrained)
    at = f"https://github.example/team/fedpipe/raw/{first}/2026-W48"
    assert f"![Accuracy per round: champion and this retraining]({at}/accuracy.svg)" in shown
    assert f"({at}/drift.png)" in shown
    assert (git(retrained, "status", "--porcelain"), git(retrained, "count-objects")) == before
    assert publish_pictures(outcome(48, new_batches=["week-48"]), "origin") == shown  # started again
    monkeypatch.setattr(pictures, "_WEEKS", 2)
    for week in (49, 50):
        publish_pictures(outcome(week), "origin")
    last = tip(retrained)
    git(retrained, "fetch", "-q", "origin", "retrain-reports")
    folders = git(retrained, "ls-tree", "--name-only", last).splitlines()
    assert folders == ["2026-W49", "2026-W50"] and git(retrained, "rev-list", "--count", last) == "3"
    assert git(retrained, "show", f"{first}:2026-W48/drift.png") == "a picture"
    svg = git(retrained, "show", f"{last}:2026-W50/accuracy.svg")
    assert "champion" in svg and "this retraining" in svg and "background:#fff" in svg


def test_without_github_or_with_secret_noise_there_are_none(
    retrained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    week = outcome(48)
    (retrained / "metrics/training.json").write_text('{"noise": "secret"}')
    assert publish_pictures(week, "origin") == ""
    (retrained / "metrics/training.json").write_text('{"weights_sha256": "def"}')
    monkeypatch.delenv("GITHUB_REPOSITORY")
    assert publish_pictures(week, "origin") == "" == tip(retrained)
    git(retrained, "remote", "set-url", "--push", "origin", str(retrained / "nowhere"))
    git(retrained, "remote", "set-url", "origin", "git@github.com:team/fedpipe.git")
    assert publish_pictures(week, "origin") == ""
    assert "publish: warning: no pictures in the pull request: `git ls-remote" in capsys.readouterr().err
