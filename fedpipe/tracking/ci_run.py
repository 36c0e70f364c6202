"""The CI run that a process is part of, from the environment: its page, and the week that it retrains for."""

import os
import re

WEEK = "FEDPIPE_WEEK"  # set by a retraining for its stages, such as 2026-W48
_ISO_WEEK = re.compile(r"\d{4}-W\d{2}")
# GitLab's, Jenkins' and Buildkite's, in which the address of a run's page is one variable.
_ADDRESSES = ("CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL")


def url() -> str | None:
    """The address of the run's page; None outside of CI."""
    parts = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    if all(parts):
        return "{}/{}/actions/runs/{}".format(*parts)
    return next(filter(None, map(os.environ.get, _ADDRESSES)), None)


def week() -> str:
    """The week that is retrained for; empty outside of a retraining."""
    value = os.environ.get(WEEK, "")
    return value if _ISO_WEEK.fullmatch(value) else ""
