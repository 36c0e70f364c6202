"""The CI run in which a training or a registration happens, and the week that it retrains for."""

import os
import re

RUN_TAG, WEEK_TAG = "fedpipe.ci_run", "fedpipe.week"
WEEK = "FEDPIPE_WEEK"  # set by a retraining for its stages, such as 2026-W48
_ISO_WEEK = re.compile(r"\d{4}-W\d{2}")
# GitLab's, Jenkins' and Buildkite's, in which one variable has the URL of the run.
_URLS = ("CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL")


def run_url() -> str | None:
    """The URL of the GitHub Actions run that runs this; None elsewhere."""
    repository, run = _repository(), os.environ.get("GITHUB_RUN_ID")
    return f"{repository}{run}" if repository and run else None


def tags() -> dict[str, str]:
    """Tags of an MLflow run that say which CI run made it; none outside of CI."""
    url = run_url() or next(filter(None, map(os.environ.get, _URLS)), None)
    return {RUN_TAG: url} if url else {}


def week() -> str:
    """The ISO week that is retrained for; empty outside of a retraining."""
    value = os.environ.get(WEEK, "")
    return value if _ISO_WEEK.fullmatch(value) else ""


def _repository() -> str | None:
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}/actions/runs/" if server and repository else None
