"""The run that a version of a model comes from: read for a version that is here, made for one from elsewhere."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.registry import Registry, Version
from fedpipe.tracking.run_events import WEIGHTS_TAG, Event, experiment, now, sha256

_TABLES = "tables"  # the artifact folder


@dataclass(frozen=True)
class VersionRun:
    """What MLflow has of a training.

    Attributes:
      name: The run's name.
      params: Its params, flat: ``train.rounds`` is ``10``.
      metrics: The last value of each, such as ``test/accuracy``.
      tags: MLflow's own and this project's.
    """

    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def read_run(registry: Registry, version: Version) -> VersionRun:
    """The run of ``version``.

    Raises:
      PipelineError: MLflow cannot be reached, or the run was deleted.
    """
    with registry.readable_errors():
        run = registry.client().get_run(version.run_id)
        return VersionRun(run.info.run_name, run.data.params, run.data.metrics, run.data.tags)


def read_table(registry: Registry, version: Version, name: str) -> str | None:
    """The text of a table that the run of ``version`` logged; None if it logged none of this name.

    Raises:
      PipelineError: As `read_run`.
    """
    with registry.readable_errors(), tempfile.TemporaryDirectory() as folder:
        path = f"{_TABLES}/{name}"
        if path not in [file.path for file in registry.client().list_artifacts(version.run_id, _TABLES)]:
            return None
        return Path(registry.client().download_artifacts(version.run_id, path, folder)).read_text(encoding="utf-8")


def make_run(store: MlflowStore, dataset: str, data_sha256: str, run: VersionRun, weights: Path) -> str:
    """Makes the run of a version from elsewhere, with its model, and returns its id; the same run for the same weights.

    The MLflow model is made anew, with the code of this checkout: of what comes from elsewhere, only weights are used.

    Args:
      store: MLflow's store here.
      dataset: The data set's name.
      data_sha256: Digest of the shards that it was trained on.
      run: The known facts of the run.
      weights: The file of weights.

    Raises:
      PipelineError: MLflow refuses.
      Unreachable: It cannot be reached.
    """
    digest, name = sha256(weights), experiment(dataset)
    journal = f"champion-{digest}"  # so that one that was cut short is the same run
    own = store.run_of_journal(journal, name)
    if not own and (trained_here := store.run_of_weights(digest, name)):
        store.log(trained_here, {"time": now(), "weights": weights.name}, weights.parent)
        return trained_here
    start: Event = {"experiment": name, "time": now(), "name": run.name, "tags": dict(run.tags)}
    run_id = own or store.create_run(journal, start)
    event: Event = {
        "time": now(),
        "params": dict(run.params),
        "metrics": dict(run.metrics),
        "tags": {WEIGHTS_TAG: digest},
        "dataset": {"name": dataset, "digest": data_sha256, "source": "elsewhere"},
        "weights": weights.name,
        "status": "FINISHED",
    }
    store.log(run_id, event, weights.parent)
    return run_id
