"""``python -m operations.register``: put the evaluated model into MLflow's model registry, as challenger.

A command and no DVC stage: the registry is state outside of DVC. A stage's result is in the cache, so DVC would skip
the registration where it has seen the same weights before, and a registry that is new would stay empty.
"""

import argparse
import json
import os
import sys
from typing import Any

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.dvc_lock import Lock
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking import journal, run_events
from fedpipe.tracking.delivery import sync
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.registry import COMMIT_TAG, DATA_TAG, MODEL_TAG, TEST_SET_TAG
from layout import (
    CLASS_TABLE,
    CLIENT_PICTURE,
    CLIENT_TABLE,
    CONFUSION_PICTURE,
    EVALUATION,
    LOCK,
    PREDICTIONS,
    RAW,
    TRAINING,
    WEIGHTS,
)
from operations.register.checks import require_evaluated

TABLES = [EVALUATION, CLASS_TABLE, CLIENT_TABLE, PREDICTIONS]
PICTURES = [CONFUSION_PICTURE, CLIENT_PICTURE]


def main(arguments: list[str] | None = None) -> None:
    """Checks that evaluation and weights belong together, finds or makes their run, registers its model."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    if os.environ.get("FEDPIPE_TRACKING") == "off":
        raise PipelineError("FEDPIPE_TRACKING=off: the model registry is MLflow's; unset it and register again")
    raw = RawDataset.read(RAW)
    require_evaluated(WEIGHTS, EVALUATION, TRAINING)
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
        COMMIT_TAG: run["tags"].get("mlflow.source.git.commit", "unknown"),
        MODEL_TAG: run["params"].get("train.model", "unknown"),
    }
    with registry_lock(outbox.store):
        version = layout.registry().add_challenger(raw.name, run["id"], tags)
    print(
        f"register: {version} is the challenger in {outbox.shown_store}: run {run['name']}, "
        f"test accuracy {metrics['test']['accuracy']:.4f}",
        file=sys.stderr,
    )


def _evaluated_run(sha256: str, dataset: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """The run that trained these weights; it or its evaluation is logged from the pipeline's outputs if missing."""
    run = _find_run(sha256, dataset)
    if run is None or any(run["metrics"].get(name) != value for name, value in run_events.metrics_of(metrics).items()):
        tables, pictures = ([path for path in paths if path.exists()] for paths in (TABLES, PICTURES))
        evaluated_with = Lock.read(LOCK).params(["evaluate"])
        told = layout.outbox(), layout.pipeline_files()
        journal.record_evaluation(*told, WEIGHTS, metrics, tables, pictures, evaluated_with)
        run = _find_run(sha256, dataset)
    if run is None:
        raise PipelineError(
            f"{layout.outbox().shown_store} did not take the run of {WEIGHTS} ({layout.outbox().log} says why): "
            "`make sync` tries again"
        )
    return run


def _find_run(sha256: str, dataset: str) -> dict[str, Any] | None:
    registry = layout.registry()
    with registry.asked():
        found = MlflowStore(layout.store()).run_of_weights(sha256, run_events.experiment(dataset))
        if found is None:
            return None
        run = registry.client().get_run(found)
    return {
        "id": found,
        "name": run.info.run_name,
        "metrics": run.data.metrics,
        "params": run.data.params,
        "tags": run.data.tags,
    }


if __name__ == "__main__":
    run_stage(main)
