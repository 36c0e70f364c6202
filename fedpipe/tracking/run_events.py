"""Run events: what a run says about params, code, data and results, each an event of the journal (journal.py).

An event is a dict that JSON can hold, with ``event`` (its kind) and ``time`` (milliseconds since 1970).
"""

import collections
import csv
import getpass
import hashlib
import json
import math
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpipe.datasets import pool
from fedpipe.dvc_lock import LOCK, Lock, md5

Event = dict[str, Any]

MANIFEST = Path("data/clients/manifest.json")
ROUNDS = Path("metrics/rounds.csv")
SUMMARY = Path("metrics/training.json")
PARTITION = Path("metrics/partition.json")

# The stages whose params a training is made with.
TRAINED_BY = ("download", "partition", "train")

# Of these stages, a rebuilt run does not know the params: they were run by hand.
UNKNOWN_TAG = "fedpipe.params_unknown"
WEIGHTS_TAG = "fedpipe.weights_sha256"
FAILURE_TAG = "fedpipe.failure"
RESUMED_TAG = "fedpipe.resumed"
EXPERIMENT_TAG = "fedpipe.experiment"
ROUND_METRIC = "loss"  # that every round has
_DECIDE_NOTHING = "train.checkpoint."  # params that may change from one process of a training to the next
# What the pipeline itself writes is no change of the code: DVC deletes outputs before it makes them again.
_OUTPUTS = ("dvc.lock", "metrics", "plots", "models", "data", "logs")


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


def run_name(params: Mapping[str, Any]) -> str:
    """A run's name after what it trains: ``baseline_cnn contiguous 600 clients 10 rounds``.

    An algorithm other than FedAvg comes first: ``scaffold baseline_cnn contiguous ...``.

    Args:
      params: The tree of params that the run was made with; what it lacks is a question mark in the name.
    """
    train, partition = (collections.defaultdict(lambda: "?", params.get(key, {})) for key in ("train", "partition"))
    quantity = partition.get("quantity", "even")  # a section in revisions of before there were quantities
    quantity = f" {quantity}" if isinstance(quantity, str) and quantity != "even" else ""
    algorithm = train.get("algorithm", "fed_avg")  # revisions of before there were algorithms have none
    prefix = "" if algorithm == "fed_avg" else f"{algorithm} "
    partitioned = f"{partition['scheme']}{quantity} {partition['clients']} clients"
    return f"{prefix}{train['model']} {partitioned} {train['rounds']} rounds"


def recorded_params(*stages: str) -> dict[str, Any]:
    """The params that the stages' outputs in this folder were made with, as a tree.

    They are dvc.lock's, since params.yaml may have been edited after the stages ran. A stage whose outputs are others
    than dvc.lock knows was run by hand; its params are not known, and left out.

    Raises:
      PipelineError: dvc.lock is damaged.
    """
    lock = _lock()
    return lock.params(stage for stage in stages if lock.is_of_the_files(stage))


def _lock() -> Lock:
    return Lock.read() if LOCK.is_file() else Lock({})


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dvc_experiment() -> str:
    """The name that ``dvc exp`` gave the experiment which this process is part of; empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def git_tags() -> dict[str, str]:
    """Tags for the commit and for whether the tree differs from it; ``unknown: <why>`` where git cannot say."""
    try:
        changes = _git("status", "--porcelain", "--", ".", *(f":(exclude){output}" for output in _OUTPUTS))
        return {
            "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
            "fedpipe.git_dirty": str(bool(changes)).lower(),
        }
    except _GitFailed as reason:
        return dict.fromkeys(("mlflow.source.git.commit", "fedpipe.git_dirty"), f"unknown: {reason}")


class _GitFailed(Exception):
    """Git cannot say what it was asked; the text is why."""


def _git(*arguments: str) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments], env=environment, capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        raise _GitFailed("git is not installed") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise _GitFailed(str(error)) from None
    if done.returncode:
        said = done.stderr.partition("\n")[0].removeprefix("fatal: ")
        raise _GitFailed("no git repository" if "not a git repository" in said else said)
    return done.stdout.strip()


def start(started: Mapping[str, Any], files: Mapping[str, list[str]]) -> Event:
    """The event that opens a run.

    Args:
      started: ``name``; ``dataset`` with ``name``, ``digest`` and ``source``; optionally ``params`` (the tree of what
        the run is made with), ``tags``, and ``environment`` (CPU and library versions, also nested), which becomes
        tags too.
      files: Artifact folder to paths inside the journal.

    Raises:
      PipelineError: The pool's ledger cannot be read.
    """
    dataset = started["dataset"]
    tags = {"mlflow.user": _user(), "mlflow.source.name": "dvc.yaml", "mlflow.source.type": "LOCAL"}
    tags |= git_tags() | {"fedpipe.data_sha256": dataset["digest"]} | flatten(started.get("tags", {}))
    tags["fedpipe.pool_version"] = _pool_version()
    tags |= flatten(started.get("environment", {}), "environment.")
    params, name = flatten(started.get("params", {})), started["name"]
    if trial := dvc_experiment():
        tags[EXPERIMENT_TAG] = trial
        name = f"{trial}: {name}"
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


def _pool_version() -> str:
    """The version of the pool that the shards were made with; unknown where the ledger has changed since."""
    partitioned = _lock().hashes("partition", "deps").get(str(pool.LEDGER))
    is_same = partitioned is None or (pool.LEDGER.is_file() and md5(pool.LEDGER) == partitioned)
    return str(pool.version(pool.read_ledger())) if is_same else "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"


def experiment(dataset: str) -> str:
    """The MLflow experiment that holds the runs on ``dataset``."""
    return f"fedpipe-{dataset}"


def round_metrics(step: int, values: Mapping[str, float]) -> Event:
    """The event of a round's end: everything it measured."""
    return {"event": "metrics", "time": now(), "step": step, "metrics": _floats(values)}


def results(
    values: Mapping[str, Any], files: Mapping[str, list[str]], weights: Mapping[str, str] | None = None
) -> Event:
    """The event of results.

    Args:
      values: Numbers among them (also nested, with dotted names) become metrics, the rest tags.
      files: Artifact folder to paths inside the journal.
      weights: ``path`` inside the journal and ``sha256`` of the weights, if they are the result.
    """
    leaves = _leaves(values)
    event: Event = {
        "event": "results",
        "time": now(),
        "metrics": _floats({key: value for key, value in leaves if _is_number(value)}),
        "tags": flatten({key: value for key, value in leaves if not _is_number(value)}),
        "files": dict(files),
    }
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
    """A SHA-256 of what a run cannot change once it is opened: of its params and its experiment."""
    fixed = [event["experiment"], event["params"], event["tags"].get(EXPERIMENT_TAG, "")]
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def end(status: str, reason: str = "") -> Event:
    """The event that closes a run.

    Args:
      status: MLflow's: ``FINISHED``, ``FAILED`` or ``KILLED``; empty leaves the run's as it is.
      reason: What went wrong, in a sentence.
    """
    return {"event": "end", "time": now(), "status": status, "tags": {FAILURE_TAG: reason} if reason else {}}


def find(sha256: str) -> Event:
    """The event that opens an evaluation: which run it belongs to.

    An experiment of DVC has a run of its own, also where its training was done before and came from the cache.
    """
    name = experiment(dataset_of_shards()["name"])
    trial = dvc_experiment()
    return {"event": "evaluation", "time": now(), "experiment": name, "sha256": sha256, "dvc_experiment": trial}


def rebuilt(params: Mapping[str, Any], files: Mapping[str, list[str]], weights: Mapping[str, str]) -> list[Event]:
    """The events of a training that this store has not seen, from what the pipeline keeps of it.

    Times are not among its outputs, so all events are of now.

    Args:
      params: What it was made with (`recorded_params`), as a tree.
      files: Artifact folder to paths inside the journal.
      weights: As in `results`.

    Raises:
      PipelineError: The pool's ledger cannot be read.
    """
    tags = {"fedpipe.restored": "true"}
    if unknown := [stage for stage in TRAINED_BY if stage not in params]:
        tags[UNKNOWN_TAG] = ", ".join(unknown)
    return [
        start({"name": run_name(params), "params": params, "dataset": dataset_of_shards(), "tags": tags}, {}),
        *(round_metrics(int(row["round"]), _measured(row)) for row in _rows(ROUNDS)),
        results(_read_object(SUMMARY) | partition_figures(), files, weights),
        end("FINISHED"),
    ]


def partition_figures() -> dict[str, Any]:
    """The figures of the partition below the key ``partition``, as the partition stage wrote them down."""
    return {"partition": _read_object(PARTITION)}


def dataset_of_shards() -> dict[str, str]:
    """The data set's name, digest and source, as the partition stage wrote them down."""
    manifest = _read_object(MANIFEST)
    return {
        "name": str(manifest.get("dataset", "unknown")),
        "digest": str(manifest.get("digest", "unknown")),
        "source": str(manifest.get("source", MANIFEST.parent)),
    }


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _measured(row: Mapping[str, str]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key != "round" and value not in ("", None)}


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    """Plain floats, NumPy's too; NaN and infinity are kept, as a diverged run is worth seeing."""
    return {key: math.nan if value is None else float(value) for key, value in values.items()}
