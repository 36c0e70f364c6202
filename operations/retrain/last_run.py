"""``python -m operations.retrain.last_run``: in GitHub Actions, brings back what the last retraining kept.

Model registry and DVC cache live in files where there is no tracking server and no DVC remote, and a workflow starts in
an empty folder. An artifact and not a cache: GitHub drops a cache that nobody asked for in a week, and that is the time
between two runs.
"""

import os
import subprocess
import sys

from fedpipe.errors import PipelineError, run_stage

WORKFLOW = "retrain.yml"
ARTIFACT = "retrain-state"


def main() -> None:
    """Downloads the artifact of the last run on this branch that kept one; without one, starts from nothing.

    Also of a run that failed: what it took in, trained and promoted before that is in there.

    Raises:
      PipelineError: There is one that cannot be downloaded. (To start from nothing then would promote any model.)
    """
    branch = os.environ.get("GITHUB_REF_NAME", "main")
    # Runs of this workflow on this branch only, and none for a pull request: anybody's could upload such an artifact.
    listed = ["run", "list", "--workflow", WORKFLOW, "--branch", branch, "--limit", "100", "--json", "databaseId,event"]
    trusted = '.[] | select(.event == "schedule" or .event == "workflow_dispatch") | .databaseId'
    run = next(filter(_has_artifact, _gh(*listed, "--jq", trusted).split()), None)
    if run is None:
        _say(f"no run on {branch} has kept anything, or all of it has expired: starting from nothing")
        return
    _gh("run", "download", run, "--name", ARTIFACT, "--dir", ".")
    _say(f"model registry and DVC cache of run {run} are back")


def _has_artifact(run: str) -> bool:
    of_name = f'.artifacts[] | select(.name == "{ARTIFACT}" and (.expired | not)) | .id'
    return bool(_gh("api", f"repos/{{owner}}/{{repo}}/actions/runs/{run}/artifacts", "--jq", of_name).strip())


def _gh(*arguments: str) -> str:
    try:
        done = subprocess.run(["gh", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PipelineError(
            "GitHub's command `gh` is not installed; outside of GitHub this step is not needed"
        ) from None
    if done.returncode:
        raise PipelineError(f"`gh {' '.join(arguments[:2])}` failed: {done.stderr.strip() or 'it does not say why'}")
    return done.stdout


def _say(line: str) -> None:
    print(f"last run: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
