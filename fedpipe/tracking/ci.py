"""The run of GitHub Actions in which a training or a registration happens."""

import os

RUN_TAG = "fedpipe.ci_run"


def run_url() -> str | None:
    """The URL of the GitHub Actions run that runs this; None elsewhere."""
    repository, run = _repository(), os.environ.get("GITHUB_RUN_ID")
    return f"{repository}{run}" if repository and run else None


def tags() -> dict[str, str]:
    """Tags of an MLflow run that say which run of GitHub Actions made it; none elsewhere."""
    url = run_url()
    return {RUN_TAG: url} if url else {}


def _repository() -> str | None:
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}/actions/runs/" if server and repository else None
