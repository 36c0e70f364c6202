"""``python -m operations.retrain.last_run``: in GitHub Actions, restores the last retraining's state.

Model registry, DVC cache and checkpoints are in files where there is no tracking server and no DVC remote, and a
workflow starts in an empty folder. An artifact and not a cache: GitHub drops a cache that nobody asked for in a week,
and that is the time between two runs.

Git says whether there was a state: models/champion.json names a champion, or there are tags models/*. Where there was
one and it does not come back, this stops. FEDPIPE_CHAMPION_FROM names where to restore the champion from: what
``make champion FROM=...`` takes. FEDPIPE_START_ANEW=true starts anew.
"""

import os
import sys
from pathlib import Path

from fedpipe.errors import PipelineError, run_stage
from operations import github
from operations.champion.__main__ import main as bring_champion
from operations.promote import git_champion
from operations.register.git_tag import PREFIX
from operations.retrain.destination import Remote, destination, experiment
from operations.retrain.kept import unpack
from operations.retrain.outcome import Outcome

WORKFLOW = "retrain.yml"
ARTIFACT = "retrain-state"
FOLDER = Path("retrain-state")
DAYS = 90  # retention-days of the artifact in the workflow
_TRUSTED_EVENTS = ("schedule", "workflow_dispatch", "push")


def main() -> None:
    """Downloads the artifact that a run on the default branch uploaded last.

    Also of a run that failed: what it took in, trained and registered before that is in there.

    Raises:
      PipelineError: There is one that cannot be downloaded, or there is none though git names a champion. (To start
        from nothing then would promote any model.)
    """
    branch = os.environ.get("FEDPIPE_DEFAULT_BRANCH") or os.environ.get("GITHUB_REF_NAME", "main")
    source = os.environ.get("FEDPIPE_CHAMPION_FROM")
    if source and experiment():
        raise PipelineError(
            "the input champion_from restores the champion, which an experiment does not move: start the workflow on "
            f"{branch}, and without params"
        )
    run = _last_run(branch)
    if run is not None:
        github.gh("run", "download", run, "--name", ARTIFACT, "--dir", str(FOLDER))
        # An experiment is another training than the one that main has not ended.
        unpacked = unpack(FOLDER, takes_unfinished=not experiment())
        for note in unpacked.notes:
            _say(note)
        _say(f"the state of run {run} is back: {unpacked.files} files")
    if source:  # also beside a state, whose registry may be on a server that lost it
        _say("the champion is restored from where FEDPIPE_CHAMPION_FROM (the input champion_from) says")
        bring_champion(["--", source])
    elif run is not None:
        return
    elif starts_anew():
        _say("starting anew, as asked")
    elif os.environ.get("MLFLOW_TRACKING_URI"):
        _say("no run has kept a state; the model registry is the tracking server's")
    elif evidence := _evidence():
        raise PipelineError(
            f"no run on {branch} has kept an artifact {ARTIFACT}, or all of them have expired, but {evidence}: restore "
            "the champion with the input champion_from of a run by hand, or begin without one with the input start_anew"
        )
    else:
        _say(f"no run on {branch} has kept anything, and git names no champion: starting from nothing")


def starts_anew() -> bool:
    """Whether somebody asked to begin without the champion that git names."""
    return os.environ.get("FEDPIPE_START_ANEW") == "true"


def _last_run(branch: str) -> str | None:
    # Runs of this workflow on this branch only, and none for a pull request: anybody's could upload such an artifact.
    listed = ["--workflow", WORKFLOW, "--branch", branch, "--limit", "100", "--json", "databaseId,event"]
    trusted = {run["databaseId"] for run in github.ask("run", "list", *listed) if run["event"] in _TRUSTED_EVENTS}
    path = f"repos/{{owner}}/{{repo}}/actions/artifacts?name={ARTIFACT}&per_page=100"
    artifacts = [artifact for artifact in github.ask("api", path)["artifacts"] if not artifact["expired"]]
    # The newest by its upload, and not by its run: an older run that was started again has the newest state.
    artifacts.sort(key=lambda artifact: artifact["created_at"], reverse=True)
    runs = (artifact["workflow_run"]["id"] for artifact in artifacts)
    return next((str(run) for run in runs if run in trusted), None)


def _evidence() -> str | None:
    """What in git says that there was a registry; None if nothing does."""
    marker = git_champion.of_head()
    if marker.weights_sha256:
        return f"models/champion.json names a champion ({marker.weights_sha256[:12]}…)"
    place = destination(None)
    tags = place.tags(PREFIX) if isinstance(place, Remote) else []
    return f"the repository has the tag {tags[-1]}" if tags else None


def _say(line: str) -> None:
    print(f"last run: {line}", file=sys.stderr, flush=True)


def _main() -> None:
    try:
        main()
    except PipelineError as error:  # `make tell` reports it, with the remedy
        Outcome(dataset="", status="failed", reason=str(error)).write()
        raise


if __name__ == "__main__":
    run_stage(_main)
