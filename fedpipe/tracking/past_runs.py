"""Runs that MLflow holds, to be read: their artifacts, and how long their rounds took."""

import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.tracking.connection import configure, connect, translated
from fedpipe.tracking.delivery import Unreachable
from fedpipe.tracking.naming import SECONDS
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.run_events import WEIGHTS_TAG
from fedpipe.tracking.sqlite_store import file_of

_PICTURE = ".png"
_SECONDS = (SECONDS, "seconds")  # the second is the name in runs of former versions


class PastRun:
    """One run, by its id."""

    def __init__(self, run_id: str, store: str) -> None:
        """Asks the MLflow store at this address for the run.

        Raises:
          PipelineError: There is none of this id, or MLflow cannot be reached.
        """
        self._store, shown = store, without_password(store)
        if not _has_runs(store):
            raise PipelineError(f"{shown} holds no runs yet: 'dvc repro' makes one, or set MLFLOW_TRACKING_URI")
        configure()
        self.run_id = run_id
        try:
            with translated():
                run = self._client.get_run(run_id)
        except Unreachable as error:
            raise _unreachable(error, store) from None
        except PipelineError:
            raise PipelineError(f"{shown} has no run '{run_id}': a run's page in 'make ui' shows its id") from None
        self.name: str = run.info.run_name
        self.tags: Mapping[str, str] = run.data.tags
        self.params: Mapping[str, str] = run.data.params

    @cached_property
    def _client(self):  # type: ignore[no-untyped-def]  # MLflow is imported when it is needed
        return connect(self._store)

    def artifact(self, path: Path) -> bytes:
        """The content of an output of the pipeline, named as in dvc.yaml, that the run keeps.

        Raises:
          PipelineError: The run lacks the artifact, or MLflow cannot be reached.
        """
        folder = "" if path.parent == Path() else "pictures" if path.suffix == _PICTURE else "tables"
        artifact = f"{folder}/{path.name}" if folder else path.name
        try:
            with translated(), tempfile.TemporaryDirectory() as into:
                kept = {item.path for item in self._client.list_artifacts(self.run_id, folder or None)}
                if artifact in kept:
                    return Path(self._client.download_artifacts(self.run_id, artifact, into)).read_bytes()
        except Unreachable as error:
            raise _unreachable(error, self._store) from None
        raise PipelineError(
            f"MLflow run {self.run_id} ({self.name}) has no artifact {artifact}: only a training that ended and was "
            "evaluated has all; 'dvc repro' makes such a run"
        )


def seconds_per_round(weights_sha256: str, store: str) -> Mapping[int, float]:
    """The seconds of each round of the store's newest run that trained these weights; empty if there is none.

    A run that was made from the pipeline's outputs (restored from the DVC cache) has no times and does not count.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    if not _has_runs(store):
        return {}
    configure()
    try:
        with translated():
            client = connect(store)
            everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
            which = f"tags.`{WEIGHTS_TAG}` = '{weights_sha256}'"
            runs = client.search_runs(everywhere, which, order_by=["start_time DESC"]) if everywhere else []
            timed = [(run.info.run_id, name) for run in runs for name in _SECONDS if name in run.data.metrics]
            history = client.get_metric_history(*timed[0]) if timed else []
            return {metric.step: metric.value for metric in sorted(history, key=lambda metric: metric.step)}
    except Unreachable as error:
        raise _unreachable(error, store) from None


def _has_runs(store: str) -> bool:
    """Whether there may be runs; asked first, since MLflow would make an empty SQLite file."""
    file = file_of(store)
    return file is None or file.exists()


def _unreachable(error: Unreachable, store: str) -> PipelineError:
    return PipelineError(f"MLflow ({without_password(store)}) {error.predicate}; {error.remedy}")
