"""A GitHub for tests: a stand-in for its command `gh` whose answers are those of a state, beside a real git remote.

github = GitHub(tmp_path / "github", remote)
subprocess.run(command, env=os.environ | github.environment())
github.pulls, github.issues, github.labels, github.calls()
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.gh_command import ADDRESS

_IDENTITY = {f"GIT_{who}_{what}": "a@a.a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class GitHub:
    """A repository on GitHub.

    Attributes:
      folder: What belongs to the stand-in: ``gh`` itself, its state, the calls.
      remote: The bare repository that stands for the one on GitHub.
    """

    def __init__(self, folder: Path, remote: Path, login: bool = True) -> None:
        self.folder, self.remote = folder, remote
        folder.mkdir(parents=True)
        command = folder / "gh"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{ROOT}/tests/gh_command.py" "{folder}" "$@"\n')
        command.chmod(0o755)
        lists: dict[str, list[Any]] = {name: [] for name in ("issues", "pulls", "runs", "artifacts")}
        now = datetime.datetime.now(datetime.UTC).isoformat()
        about = {
            "login": login,
            "private": True,
            "pushed_at": now,
            "broken": "",
            "no_issues": "",
            "no_api": "",
            "repository": str(remote),
        }
        self._write(lists | about | {"labels": {}, "last_number": 0})

    def environment(self, run: int | None = None, branch: str = "main") -> dict[str, str]:
        """The variables of a step in a workflow: with ``run``, as GitHub sets them for the run of this number."""
        server, _, repository = ADDRESS.removeprefix("https://").partition("/")
        path = {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", "GH_TOKEN": "secret"}
        if run is None:
            return path
        names = {"SERVER_URL": f"https://{server}", "REPOSITORY": repository, "RUN_ID": str(run), "REF_NAME": branch}
        return path | {f"GITHUB_{name}": value for name, value in names.items()} | {"GITHUB_ACTIONS": "true"}

    @property
    def state(self) -> dict[str, Any]:
        """All that it knows; see gh_command.py."""
        return dict(json.loads((self.folder / "state.json").read_text()))

    def set(self, **values: Any) -> None:
        """Changes the state: ``login=False``, ``broken="HTTP 500"``."""
        self._write(self.state | values)

    def _write(self, state: dict[str, Any]) -> None:
        (self.folder / "state.json").write_text(json.dumps(state, indent=1))

    @property
    def issues(self) -> list[dict[str, Any]]:
        """Issues, oldest first: number, title, body, state, labels, comments, url."""
        return list(self.state["issues"])

    @property
    def pulls(self) -> list[dict[str, Any]]:
        """Pull requests, oldest first: as issues, and headRefName, baseRefName."""
        return list(self.state["pulls"])

    @property
    def labels(self) -> dict[str, Any]:
        """The repository's labels."""
        return dict(self.state["labels"])

    def calls(self, *words: str) -> list[str]:
        """The calls of `gh` that begin with ``words``, each as one text."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [" ".join(json.loads(line)) for line in lines]
        return [call for call in calls if call.startswith(" ".join(words))]

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The stand-in is `gh` in this test; no user's settings of git, and no workflow."""
        settings = ("GITHUB_", "GH_", "FEDPIPE_", "MLFLOW_TRACKING_", "GIT_", "EMAIL")
        for name in os.environ:
            if name.startswith(settings) and not name.endswith("_SOURCE"):  # where data sets are
                monkeypatch.delenv(name)
        values = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(self.folder)}
        values |= {"PATH": self.environment()["PATH"], "PYTHONPATH": str(ROOT)}
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    def start_run(self, event: str = "schedule", branch: str = "main") -> int:
        """A run of the workflow; returns its number."""
        state = self.state
        number = 1000 + len(state["runs"])
        state["runs"].append({"databaseId": number, "event": event, "headBranch": branch, "status": "in_progress"})
        self._write(state)
        return number

    def upload(self, run: int, name: str, source: Path, paths: list[str], days: int = 90) -> int:
        """As actions/upload-artifact with ``overwrite``: keeps ``paths`` of ``source``; returns their bytes."""
        state = self.state
        folder = self.folder / "artifacts" / f"{run}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        for path in paths:
            if (source / path).is_dir():
                place = folder if len(paths) == 1 else folder / path  # the folder itself is not a part of it
                shutil.copytree(source / path, place, dirs_exist_ok=True)
            elif (source / path).exists():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / path, folder / path)
        if not folder.exists():
            return 0
        now = datetime.datetime.now(datetime.UTC)
        expires = now + datetime.timedelta(days=days)
        others = [each for each in state["artifacts"] if (each["run"], each["name"]) != (run, name)]
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        mine = {"id": len(others) + 1, "name": name, "run": run, "expired": False, "size_in_bytes": size}
        mine |= {"created_at": now.isoformat(), "expires_at": expires.isoformat(), "workflow_run": {"id": run}}
        state["artifacts"] = [*others, mine | {"folder": str(folder)}]
        self._write(state)
        return size

    def expire(self, name: str) -> None:
        """All artifacts of this name expire."""
        state = self.state
        for each in state["artifacts"]:
            each["expired"] = each["expired"] or each["name"] == name
        self._write(state)

    def lose(self, name: str) -> None:
        """The artifacts of this name are listed, and cannot be downloaded."""
        for artifact in self.state["artifacts"]:
            if artifact["name"] == name:
                shutil.rmtree(artifact["folder"])

    def merge(self, number: int) -> str:
        """Merges a pull request, as a person does with the button; returns the merge's commit."""
        state = self.state
        (pull,) = [each for each in state["pulls"] if each["number"] == number]
        base, head = (f"refs/heads/{pull[key]}" for key in ("baseRefName", "headRefName"))
        tree = self._git("merge-tree", "--write-tree", base, head).splitlines()[0]
        message = f"Merge pull request #{number}"
        commit = self._git("commit-tree", tree, "-p", base, "-p", head, "-m", message)
        self._git("update-ref", base, commit)
        pull["state"] = "MERGED"
        self._write(state)
        return commit

    def close(self, number: int) -> None:
        """A person closes an issue or a pull request."""
        state = self.state
        for each in [*state["issues"], *state["pulls"]]:
            if each["number"] == number:
                each["state"] = "CLOSED"
        self._write(state)

    def _git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        environment = os.environ | _IDENTITY
        done = subprocess.run(command, cwd=self.remote, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()
