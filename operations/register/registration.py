"""The evaluated model becomes a version of the registered model, as challenger."""

import json
import os
import sys
from typing import Any

import layout
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.dvc_lock import Lock
from fedpipe.errors import PipelineError
from fedpipe.tracking import ci, journal, run_events
from fedpipe.tracking.delivery import sync
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.registry import (
    ACCURACY_TAG,
    COMMIT_TAG,
    DATA_TAG,
    MODEL_TAG,
    POOL_TAG,
    TEST_SET_TAG,
    Version,
)
from layout import (
    CLASS_TABLE,
    CLIENT_PICTURE,
    CLIENT_TABLE,
    CONFUSION_PICTURE,
    EVALUATION,
    LOCK,
    POOL,
    PREDICTIONS,
    RAW,
    TRAINING,
    WEIGHTS,
)
from operations.register.checks import require_evaluated

TABLES = [EVALUATION, CLASS_TABLE, CLIENT_TABLE, PREDICTIONS]
PICTURES = [CONFUSION_PICTURE, CLIENT_PICTURE]


def require_registrable() -> None:
    """Checks that there is a registry, and an evaluation of the weights that are here.

    Raises:
      PipelineError: Tracking is off, or the results do not belong together or are stale.
    """
    if os.environ.get("FEDPIPE_TRACKING") == "off":
        raise PipelineError("FEDPIPE_TRACKING=off: the model registry is MLflow's; unset it and register again")
    if os.environ.get("FEDPIPE_EXPERIMENT"):
        raise PipelineError("FEDPIPE_EXPERIMENT is set, and an experiment is not registered: unset it")
    RawDataset.read(RAW)
    require_evaluated(WEIGHTS, EVALUATION, TRAINING)


def register(commit: str) -> Version:
    """Finds or makes the run of the evaluated weights, and registers its model.

    Args:
      commit: The commit of the results. Weights that are registered already keep the commit that they have.

    Raises:
      PipelineError: MLflow cannot be reached or refuses.
    """
    raw = RawDataset.read(RAW)
    metrics = json.loads(EVALUATION.read_text(encoding="utf-8"))
    sha256 = run_events.sha256(WEIGHTS)

    outbox = layout.outbox()
    if outbox.pending():
        sync(outbox, lambda: MlflowStore(outbox.store))
    run = _evaluated_run(sha256, raw.name, metrics)
    tags = {
        run_events.WEIGHTS_TAG: sha256,
        DATA_TAG: run["tags"].get("fedpipe.data_sha256", "unknown"),
        TEST_SET_TAG: raw.test_sha256(RAW),
        COMMIT_TAG: commit,
        MODEL_TAG: run["params"].get("train.model", "unknown"),
        ACCURACY_TAG: str(metrics["test"]["accuracy"]),
    }
    if not layout.pipeline_files().withholds:
        tags[POOL_TAG] = pool.digest(pool.of_dataset(Pool(POOL).read_ledger(), raw))
    tags |= ci.tags()
    with registry_lock(outbox.store):
        version = layout.registry().add_challenger(raw.name, run["id"], tags)
    print(
        f"register: {version} is the challenger in {outbox.shown_store}: run {run['name']}, "
        f"test accuracy {metrics['test']['accuracy']:.4f}",
        file=sys.stderr,
    )
    return version


def _evaluated_run(sha256: str, dataset: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """The run that trained these weights; it or its evaluation is logged from the pipeline's outputs if missing."""
    run = _find_run(sha256, dataset)
    if run is None or any(run["metrics"].get(name) != value for name, value in run_events.metrics_of(metrics).items()):
        tables, pictures = ([path for path in paths if path.exists()] for paths in (TABLES, PICTURES))
        evaluated_with = Lock.read(LOCK).params(["evaluate"])
        outbox, pipeline = layout.outbox(), layout.pipeline_files()
        journal.record_evaluation(outbox, pipeline, WEIGHTS, metrics, tables, pictures, evaluated_with)
        run = _find_run(sha256, dataset)
    if run is None:
        raise PipelineError(
            f"{layout.outbox().shown_store} did not take the run of {WEIGHTS} ({layout.outbox().log} says why): "
            "`make sync` tries again"
        )
    return run


def _find_run(sha256: str, dataset: str) -> dict[str, Any] | None:
    registry = layout.registry()
    with registry.readable_errors():
        run_id = MlflowStore(layout.store()).run_of_weights(sha256, run_events.experiment(dataset))
        if run_id is None:
            return None
        run = registry.client().get_run(run_id)
    return {
        "id": run_id,
        "name": run.info.run_name,
        "metrics": run.data.metrics,
        "params": run.data.params,
        "tags": run.data.tags,
    }
