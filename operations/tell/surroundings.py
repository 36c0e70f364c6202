"""What the repository says beside the outcome: when the champion came, when the state expires, when somebody pushed."""

import datetime
import os
from collections.abc import Mapping
from typing import Any

from fedpipe.errors import PipelineError
from layout import CHAMPION_MARKER
from operations import commands, github
from operations.retrain.last_run import ARTIFACT
from operations.tell.findings import Surroundings

JOB = "FEDPIPE_JOB"  # in the environment, the status of the workflow's job until now


def look(branch: str, has_github: bool) -> Surroundings:
    """What GitHub says of the repository and of ``branch``; without GitHub, what git says."""
    job = os.environ.get(JOB) or None
    if not has_github:
        return Surroundings(job, _committed())
    return Surroundings(job, _marked(branch), _expires(), _pushed())


def _marked(branch: str) -> datetime.date | None:
    """Asked of GitHub, since a workflow's clone has the last commit only."""
    query = f"repos/{{owner}}/{{repo}}/commits?path={CHAMPION_MARKER}&sha={branch}&per_page=1"
    commits = _answer(query) or []
    return _day(commits[0]["commit"]["committer"]["date"]) if commits else None


def _committed() -> datetime.date | None:
    try:
        if commands.git("rev-parse", "--is-shallow-repository").strip() == "true":
            return None
        return _day(commands.git("log", "-1", "--format=%cI", "--", str(CHAMPION_MARKER)).strip())
    except PipelineError:
        return None


def _expires() -> datetime.date | None:
    artifacts = (_answer(f"repos/{{owner}}/{{repo}}/actions/artifacts?name={ARTIFACT}&per_page=100") or {}).get(
        "artifacts", []
    )
    days = [_day(each["expires_at"]) for each in artifacts if not each.get("expired")]
    return max((day for day in days if day), default=None)


def _pushed() -> datetime.date | None:
    repository: Mapping[str, Any] = _answer("repos/{owner}/{repo}") or {} or {}
    return None if repository.get("private", True) else _day(repository.get("pushed_at"))


def _answer(path: str) -> Any:
    """GitHub's answer; None where it does not tell, for what it says is an addition to what happened."""
    try:
        return github.ask("api", path)
    except PipelineError:
        return None


def _day(time: str | None) -> datetime.date | None:
    return datetime.datetime.fromisoformat(time).astimezone(datetime.UTC).date() if time else None
