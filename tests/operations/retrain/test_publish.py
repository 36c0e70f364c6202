"""A retraining as a branch and a pull request, with a real git remote; `gh` is a stand-in that keeps its calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from operations import commands
from operations.retrain.publish import credentials
from tests import ROOT

# What GitHub's command would answer; its login and an open pull request are files beside it.
GH = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>calls
case "$1 $2" in
    "auth status") test -e login ;;
    "pr list") cat open 2>/dev/null || true ;;
    "pr create") echo https://github.example/pull/1 ;;
    "run list") cat run 2>/dev/null || true ;;
    "api "*) run=${2%/artifacts}; cat "artifact-${run##*/}" 2>/dev/null || true ;;
    "run download") test -e "artifact-$3" || exit 1 ;;
    "auth git-credential") echo username=x-access-token; echo "password=$GH_TOKEN" ;;
esac
"""


@pytest.fixture
def gh(tmp_path: Path) -> Path:
    folder = tmp_path / "gh"
    folder.mkdir()
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    return folder


def environment(gh: Path) -> dict[str, str]:
    nobody = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(gh)}
    return os.environ | nobody | {"PATH": f"{gh}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def project(tmp_path: Path, gh: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "metrics").mkdir(parents=True)
    for name in ("params.yaml", "dvc.lock", "metrics/a.json", "code.py"):
        (folder / name).write_text("old\n")
    (folder / ".gitignore").write_text("/reports/\n")
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@a.a", "commit", "-qm", "first"]
    for command in (
        ["git", "init", "-q", "--bare", str(tmp_path / "remote")],
        ["git", "init", "-q", "-b", "main"],
        ["git", "add", "-A"],
        commit,
        ["git", "remote", "add", "origin", str(tmp_path / "remote")],
        ["git", "push", "-q", "origin", "main"],
    ):
        subprocess.run(command, cwd=folder, env=environment(gh), check=True)
    return folder


def publish(project: Path, gh: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "operations.retrain.publish"]
    done = subprocess.run(command, cwd=project, env=environment(gh), capture_output=True, text=True)
    return done.returncode, done.stderr


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=True).stdout.strip()


def change(project: Path, text: str) -> None:
    for name in ("params.yaml", "dvc.lock", "metrics/a.json"):
        (project / name).write_text(text)


def test_nothing_to_publish(project: Path, gh: Path) -> None:
    assert publish(project, gh) == (
        0,
        "publish: nothing to publish: params, results and data are those of the last commit\n",
    )


def test_a_branch_of_its_own_and_the_folder_as_it_was(project: Path, gh: Path) -> None:
    change(project, "new\n")
    before = git(project, "status", "--porcelain", "--branch")
    code, said = publish(project, gh)
    assert code == 0 and "open the pull request from retrain/main into main in the browser" in said, said
    assert git(project, "status", "--porcelain", "--branch") == before
    tip = git(project, "ls-remote", "origin", "refs/heads/retrain/main").split()[0]
    assert git(project, "rev-parse", f"{tip}^") == git(project, "rev-parse", "main")
    assert set(git(project, "diff", "--name-only", "main", tip).split()) == {
        "params.yaml",
        "dvc.lock",
        "metrics/a.json",
    }
    assert "origin has this on retrain/main already" in publish(project, gh)[1]

    change(project, "newer\n")  # a later retraining takes the place of one that nobody merged
    assert publish(project, gh)[0] == 0
    again = git(project, "ls-remote", "origin", "refs/heads/retrain/main").split()[0]
    assert again != tip and git(project, "rev-parse", f"{again}^") == git(project, "rev-parse", "main")


def test_what_a_person_added_is_not_replaced(project: Path, gh: Path, tmp_path: Path) -> None:
    change(project, "new\n")
    assert publish(project, gh)[0] == 0
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", "-b", "retrain/main", str(tmp_path / "remote"), str(other)], check=True)
    (other / "note.txt").write_text("mine")
    git(other, "add", "-A")
    git(other, "-c", "user.name=b", "-c", "user.email=b@b.b", "commit", "-qm", "A person's")
    git(other, "push", "-q")
    change(project, "newer\n")
    code, said = publish(project, gh)
    assert code == 1 and said.startswith(
        "error: retrain/main of origin has commits of somebody: merge it, or delete it"
    )
    assert git(project, "ls-remote", "origin", "refs/heads/retrain/main").split()[0] == git(other, "rev-parse", "HEAD")


def test_changed_code_and_a_missing_remote_are_refused(project: Path, gh: Path) -> None:
    change(project, "new\n")
    (project / "code.py").write_text("new\n")
    assert "error: code.py changed since the last commit, and the results rest on it" in publish(project, gh)[1]
    git(project, "checkout", "-q", "code.py")
    (project / "stages").mkdir()
    (project / "stages/new stage.py").touch()
    assert "error: stages/new stage.py changed since the last commit" in publish(project, gh)[1]
    (project / "stages/new stage.py").unlink()
    git(project, "remote", "remove", "origin")
    assert "error: there is no git remote 'origin': add one with" in publish(project, gh)[1]


def test_a_committer_without_an_author_is_enough(project: Path, gh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_COMMITTER_NAME", "c")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "c@c.c")
    change(project, "new\n")
    assert publish(project, gh)[0] == 0


NO_REMOTE = "there is no DVC remote, so nobody else can pull the batches, data and models that retrain/main names"


def test_without_a_dvc_remote_it_says_that_nobody_can_pull(project: Path, gh: Path, tmp_path: Path) -> None:
    change(project, "new\n")
    for _ in range(2):  # also where the branch is there already
        code, said = publish(project, gh)
        assert code == 0 and NO_REMOTE in said and "`dvc push`" in said, said
    for command in (["init", "-q"], ["remote", "add", "-d", "-q", "shared", str(tmp_path / "dvc")]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, env=environment(gh), check=True)
    git(project, "-c", "user.name=a", "-c", "user.email=a@a.a", "commit", "-qm", "DVC", "--", ".dvc", ".dvcignore")
    code, said = publish(project, gh)
    assert code == 0 and "pushed" in said and "no DVC remote" not in said, said


def test_the_pull_request_is_opened_and_then_renewed(project: Path, gh: Path) -> None:
    (gh / "login").touch()
    change(project, "new\n")
    (project / "reports").mkdir()
    (project / "reports/summary.md").write_text("# What came of it")
    assert "publish: pull request https://github.example/pull/1" in publish(project, gh)[1]
    (gh / "open").write_text("7")
    assert "publish: pull request 7 is renewed" in publish(project, gh)[1]
    calls = (gh / "calls").read_text().splitlines()
    created = "pr create --base main --head retrain/main --title Retrain main --body-file reports/summary.md"
    assert created in calls and "pr edit 7 --body-file reports/summary.md" in calls


def test_git_has_the_token_from_gh_and_only_with_it(gh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(gh).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    assert "GIT_CONFIG_COUNT" not in credentials()
    monkeypatch.setenv("GH_TOKEN", "secret")
    asked = "protocol=https\nhost=github.com\n\n"
    filled = commands.git("credential", "fill", environment=credentials(), stdin=asked)
    assert "password=secret" in filled.splitlines()


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ({}, 0, "no run on main has kept anything, or all of it has expired: starting from nothing"),
        ({"run": "12"}, 0, "no run on main has kept anything"),
        # 13 is the run that asks, 12 failed before there was anything to keep.
        ({"run": "13\n12\n11\n10", "artifact-11": "5", "artifact-10": "4"}, 0, "DVC cache of run 11 are back"),
    ],
)
def test_what_the_last_run_kept(project: Path, gh: Path, answers: dict[str, str], code: int, said: str) -> None:
    for name, content in answers.items():
        (gh / name).write_text(content)
    command = [sys.executable, "-m", "operations.retrain.last_run"]
    ours = environment(gh) | {"GITHUB_REF_NAME": "main"}
    done = subprocess.run(command, cwd=project, env=ours, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    (listed,) = [call for call in (gh / "calls").read_text().splitlines() if call.startswith("run list")]
    assert "--workflow retrain.yml --branch main " in listed and "--status" not in listed
    assert 'select(.event == "schedule" or .event == "workflow_dispatch")' in listed
