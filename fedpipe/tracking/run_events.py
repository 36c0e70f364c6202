"""Run events: params, data and results of a run, each an event of the journal (journal.py).

An event is a dict that JSON can hold, with ``event`` (its kind) and ``time`` (milliseconds since 1970).
"""

import getpass
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpipe.tracking import ci
from fedpipe.tracking.naming import NOTE_TAG, Changing, metric

Event = dict[str, Any]

WEIGHTS_TAG = "fedpipe.weights_sha256"
FAILURE_TAG = "fedpipe.failure"
RESUMED_TAG = "fedpipe.resumed"
EXPERIMENT_TAG = "fedpipe.experiment"
WORKFLOW_TAG, JOB_TAG = "fedpipe.workflow", "fedpipe.job"  # of a run that a CI job made (jobs.py)
FILES_TAG = "fedpipe.files"  # of a run whose weights and pictures are gone (snapshot.py)
ROUND_METRIC = "train/loss"  # that every round has
_DECIDE_NOTHING = "train.checkpoint."  # params that may change from one process of a training to the next


def now() -> int:
    """Milliseconds since 1970, the unit of MLflow's time stamps."""
    return time.time_ns() // 1_000_000


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Nested params as MLflow's: ``{"train": {"seed": 1}}`` becomes ``{"train.seed": "1"}``.

    Text stays as it is; everything else, a list too, is written as JSON.
    """
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value)
    return flat


def flat_params(tree: Mapping[Any, Any]) -> dict[str, str]:
    """As `flatten`, without empty sections, which say nothing."""
    return {name: value for name, value in flatten(tree).items() if value != "{}"}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dvc_experiment() -> str:
    """The name that ``dvc exp`` gave the experiment which this process is part of; empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def job_tags() -> dict[str, str]:
    """The tags of a run that a job of GitHub Actions makes: its workflow and the job; none elsewhere."""
    workflow = [os.environ.get(name, "") for name in ("GITHUB_REPOSITORY", "GITHUB_WORKFLOW")]
    job = [os.environ.get(name, "") for name in ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT")]
    return {WORKFLOW_TAG: " ".join(workflow), JOB_TAG: ".".join(job)} if all([*workflow, *job]) else {}


def start(started: Mapping[str, Any], files: Mapping[str, list[str]]) -> Event:
    """The event that opens a run.

    Args:
      started: ``name``; ``dataset`` with ``name``, ``digest`` and ``source``; optionally ``params`` (the tree of what
        the run is made with), ``tags`` (those of `fedpipe.tracking.pipeline.PipelineFiles.tags` among them), and
        ``description``.
      files: Artifact folder to paths inside the journal.
    """
    dataset = started["dataset"]
    tags = {"mlflow.user": _user(), "fedpipe.data_sha256": dataset["digest"]} | flatten(started.get("tags", {}))
    tags |= job_tags()
    if note := started.get("description"):
        tags[NOTE_TAG] = note
    params, name = flat_params(started.get("params", {})), started["name"]
    if trial := dvc_experiment():
        tags[EXPERIMENT_TAG] = trial
        name = f"{trial}: {name}"
    if week := ci.week():
        tags[ci.WEEK_TAG] = week
        name = f"{week} {name}"
    return {
        "event": "start",
        "time": now(),
        "experiment": experiment(dataset["name"]),
        "name": name,
        "dataset": {key: str(dataset[key]) for key in ("name", "digest", "source")},
        "params": {key: value for key, value in params.items() if not key.startswith(_DECIDE_NOTHING)},
        "tags": tags,
        "files": dict(files),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"


def experiment(dataset: str) -> str:
    """The MLflow experiment that holds the runs on ``dataset``."""
    return f"fedpipe-{dataset}"


def round_metrics(step: int, values: Mapping[str, float], changing: Changing | None = None) -> Event:
    """The event of a round's end.

    Args:
      step: The round.
      values: All that it measured, by the names of the columns of metrics/rounds.csv.
      changing: Of the training; leaves out what stays the same from round to round.
    """
    metrics = _floats({metric(column): value for column, value in values.items()})
    shown = changing.of(metrics) if changing else metrics
    return {"event": "metrics", "time": now(), "step": step, "metrics": shown}


def results(
    values: Mapping[str, Any],
    files: Mapping[str, list[str]],
    weights: Mapping[str, str] | None = None,
    step: int = 0,
) -> Event:
    """The event of results.

    Args:
      values: Numbers among them become metrics (`metrics_of`), the rest tags; those below ``data`` become params, since
        they describe the data and are no result.
      files: Artifact folder to paths inside the journal.
      weights: ``path`` inside the journal and ``sha256`` of the weights, if they are the result.
      step: The round that the metrics are of; test/accuracy is also a metric of rounds.
    """
    facts, values = values.get("data", {}), {name: value for name, value in values.items() if name != "data"}
    event: Event = {
        "event": "results",
        "time": now(),
        "step": step,
        "metrics": metrics_of(values),
        "tags": flatten({".".join(path): value for path, value in _leaves(values) if not _is_number(value)}),
        "files": dict(files),
    }
    if facts:
        event["params"] = flat_params({"data": facts})
    if weights:
        event["tags"] |= {WEIGHTS_TAG: weights["sha256"]}
        event["weights"] = weights["path"]
    return event


def resumed(event: Event, journal: str, after: int) -> Event:
    """A `start` as that of a run that MLflow may know already, and whose first rounds were measured before.

    Args:
      event: What `start` gave.
      journal: The name of the journal that opened the run.
      after: The last round that was done before.
    """
    return event | {"run": journal, "tags": event["tags"] | {RESUMED_TAG: f"after round {after}"}}


def same_run(event: Event) -> str:
    """A SHA-256 of the parts of a run that are fixed once it is opened: its params and its experiment."""
    fixed = [event["experiment"], event["params"], event["tags"].get(EXPERIMENT_TAG, "")]
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def end(status: str, reason: str = "", description: str = "") -> Event:
    """The event that closes a run.

    Args:
      status: MLflow's: ``FINISHED``, ``FAILED`` or ``KILLED``; empty leaves the run's as it is.
      reason: What went wrong, in a sentence.
      description: The run's, by which it says how it ended; empty leaves it as it is.
    """
    tags = {FAILURE_TAG: reason} if reason else {}
    return {
        "event": "end",
        "time": now(),
        "status": status,
        "tags": tags | ({NOTE_TAG: description} if description else {}),
    }


def find(sha256: str, dataset: str) -> Event:
    """The event that opens an evaluation: which run it belongs to, by the SHA-256 of its weights.

    An experiment of DVC has a run of its own, also where its training was done before and came from the cache.
    """
    name, trial = experiment(dataset), dvc_experiment()
    return {"event": "evaluation", "time": now(), "experiment": name, "sha256": sha256, "dvc_experiment": trial}


def metrics_of(tree: Mapping[Any, Any]) -> dict[str, float]:
    """The numbers of nested results as metrics: ``{"test": {"accuracy": 0.8}}`` becomes ``{"test/accuracy": 0.8}``."""
    return _floats({"/".join(path): value for path, value in _leaves(tree) if _is_number(value)})


def _leaves(tree: Mapping[Any, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        path = (*above, str(key))
        leaves += _leaves(value, path) if isinstance(value, Mapping) else [(path, value)]
    return leaves


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    """Plain floats, NumPy's too; NaN and infinity are kept, as a diverged run is worth seeing."""
    return {key: math.nan if value is None else float(value) for key, value in values.items()}
