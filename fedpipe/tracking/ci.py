"""The run of a CI in which a training or a registration happens, from the environment: its page, and the week."""

import os
import re

RUN_TAG, WEEK_TAG = "fedpipe.ci_run", "fedpipe.week"
WEEK = "FEDPIPE_WEEK"  # set by a retraining for its stages, such as 2026-W48
_ISO_WEEK = re.compile(r"\d{4}-W\d{2}")
# GitLab's, Jenkins' and Buildkite's, in which the address of a run's page is one variable.
_ADDRESSES = ("CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL")


def run_url() -> str | None:
    """The address of the run's page; None outside of CI."""
    server, repository, run = (os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}"
    return next(filter(None, map(os.environ.get, _ADDRESSES)), None)


def week() -> str:
    """The week that is retrained for; empty outside of a retraining."""
    value = os.environ.get(WEEK, "")
    return value if _ISO_WEEK.fullmatch(value) else ""


def tags() -> dict[str, str]:
    """The tags of MLflow that name run and week; none outside of CI and retraining."""
    return {name: value for name, value in ((RUN_TAG, run_url()), (WEEK_TAG, week())) if value}
