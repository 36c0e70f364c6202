"""Runs, data sets and models in MLflow. The only module that talks to it.

MLflow is imported where it is needed, and never in a process that trains.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpipe.code import PACKAGE, SERVING
from fedpipe.errors import PipelineError
from fedpipe.tracking import views
from fedpipe.tracking.connection import configure, connect, translated
from fedpipe.tracking.delivery import Unreachable
from fedpipe.tracking.late_params import log_late_params
from fedpipe.tracking.relocation import ARTIFACTS
from fedpipe.tracking.run_events import EXPERIMENT_TAG, FAILURE_TAG, FILES_TAG, WEIGHTS_TAG, Event
from fedpipe.tracking.sqlite_store import file_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import Model

    from fedpipe.samples.kind import Kind

_JOURNAL_TAG = "fedpipe.journal"
_PER_BATCH = 100  # params or tags that MLflow takes in one call
_DIGEST_LENGTH = 36  # characters that MLflow stores; the whole digest is in a tag
_MODEL_PACKAGES = ("numpy", "pydantic", "ruamel.yaml", "safetensors", "tensorflow")


class MlflowStore:
    """A `fedpipe.tracking.delivery.Store` in MLflow."""

    def __init__(self, uri: str) -> None:
        configure()
        self._uri = uri
        self._experiments: dict[str, str] = {}

    def load(self) -> None:
        """Imports MLflow, which takes seconds, and opens the store if it is there; what is wrong shows at first use.

        A store that is not there is made when something is logged: until then the process may be ended at any moment.
        """
        with suppress(Unreachable, PipelineError), translated():  # which imports MLflow
            file = file_of(self._uri)
            if file is None or file.exists():
                self._client  # noqa: B018 - opens it

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self._uri)

    def run_of_journal(self, journal: str, experiment: str) -> str | None:
        """The id of the run made for the journal of this name."""
        with translated():
            runs = self._tagged(_JOURNAL_TAG, journal, experiment)
            return runs[0].info.run_id if runs else None

    def run_of_weights(self, sha256: str, experiment: str, dvc_experiment: str = "") -> str | None:
        """The id of the newest run that trained these weights, a finished one before others; none without its files."""
        with translated():
            whole = [run for run in self._tagged(WEIGHTS_TAG, sha256, experiment) if FILES_TAG not in run.data.tags]
            runs = sorted(whole, key=lambda run: run.info.status != "FINISHED")
            if dvc_experiment:
                runs = [run for run in runs if run.data.tags.get(EXPERIMENT_TAG) == dvc_experiment]
            return runs[0].info.run_id if runs else None

    def _tagged(self, tag: str, value: str, experiment: str) -> "list[Run]":
        """Runs whose ``tag`` has this value, newest first."""
        where, which = [self._experiment_id(experiment)], f"tags.`{tag}` = '{value}'"
        return list(self._client.search_runs(where, which, order_by=["start_time DESC"]))

    def create_run(self, journal: str, start: Event) -> str:
        """Makes the run for a journal and returns its id."""
        with translated():
            tags = start["tags"] | {_JOURNAL_TAG: journal}
            experiment_id = self._experiment_id(start["experiment"])
            run = self._client.create_run(experiment_id, start["time"], tags, run_name=start["name"])
            return run.info.run_id

    def run_name(self, run_id: str) -> str:
        """The run's name."""
        with translated():
            return self._client.get_run(run_id).info.run_name

    def last_step(self, run_id: str, metric: str) -> int:
        """The highest step for which the run has a metric; -1 if there is none."""
        with translated():
            return max((each.step for each in self._client.get_metric_history(run_id, metric)), default=-1)

    def log(self, run_id: str, event: Event, folder: Path) -> None:
        """Logs all that ``event`` holds; idempotent."""
        with translated():
            if "run" in event:
                self._reopen(run_id)
            self._log_values(run_id, event)
            if late := event.get("late_params"):
                log_late_params(self._client, run_id, late)
            if dataset := event.get("dataset"):
                self._log_dataset(run_id, dataset)
            for artifact_folder, paths in event.get("files", {}).items():
                for path in paths:
                    self._client.log_artifact(run_id, str(folder / path), artifact_folder or None)
            if weights := event.get("weights"):
                self._log_model(run_id, folder / weights)
            if status := event.get("status"):
                self._client.set_terminated(run_id, status, event["time"])

    def experiments(self) -> dict[str, str]:
        """Names and ids of this project's experiments, each with the tags of today's `views`."""
        with translated():
            experiments = self._client.search_experiments(filter_string="name LIKE 'fedpipe-%'", order_by=["name ASC"])
            for experiment in experiments:
                for key, value in views.TAGS.items():
                    if experiment.tags.get(key) != value:
                        self._client.set_experiment_tag(experiment.experiment_id, key, value)
            return {experiment.name: experiment.experiment_id for experiment in experiments}

    def machine_metrics(self) -> dict[str, float]:
        """The machine's load now, under the names of MLflow's own system metrics."""
        with translated():  # the monitor opens the store when it is made
            self._system.collect_metrics()
        metrics: dict[str, float] = {}
        for monitor in self._system.monitors:
            metrics |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return {f"system/{name}": value for name, value in metrics.items()}

    @cached_property
    def _system(self) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # Not started: its thread would give up the first time that the server is down.
        return SystemMetricsMonitor(run_id=None, tracking_uri=self._uri)

    def _reopen(self, run_id: str) -> None:
        """Sets an ended run to running again."""
        self._client.update_run(run_id, status="RUNNING")
        if FAILURE_TAG in self._client.get_run(run_id).data.tags:
            self._client.delete_tag(run_id, FAILURE_TAG)

    def _log_values(self, run_id: str, event: Event) -> None:
        """Metrics, params and tags, in one call where they fit into one."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(k, v, event["time"], event.get("step", 0)) for k, v in event.get("metrics", {}).items()]
        params = [Param(key, value) for key, value in event.get("params", {}).items()]
        tags = [RunTag(key, value) for key, value in event.get("tags", {}).items()]
        for at in range(0, max(len(metrics), len(params), len(tags)), _PER_BATCH):
            part = slice(at, at + _PER_BATCH)
            self._client.log_batch(run_id, metrics[part], params[part], tags[part])

    def _log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": dataset["source"]})
        entity = Dataset(dataset["name"], dataset["digest"][:_DIGEST_LENGTH], source_type="local", source=source)
        self._client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    def _experiment_id(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_or_create_experiment(name)
        return self._experiments[name]

    def _find_or_create_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return self._client.create_experiment(name, _artifact_location(self._uri), views.TAGS)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
                    raise
                experiment = self._client.get_experiment_by_name(name)
        if experiment.lifecycle_stage == "deleted":
            raise PipelineError(
                f"experiment '{name}' is deleted there: `mlflow experiments restore -x {experiment.experiment_id}` "
                "brings it back"
            )
        return experiment.experiment_id

    def _log_model(self, run_id: str, weights: Path) -> None:
        """Logs the model to the run, unless it is there; one whose upload was cut short is uploaded again."""
        from mlflow.entities import LoggedModelStatus
        from mlflow.models import Model

        run = self._client.get_run(run_id)
        known = [self._client.get_logged_model(o.model_id) for o in run.outputs.model_outputs] if run.outputs else []
        if any(model.status == LoggedModelStatus.READY for model in known):
            return
        model = known[0] if known else self._create_model(run)
        with tempfile.TemporaryDirectory() as folder:
            description = Model(model.artifact_location, run_id, model_uuid=model.model_id, model_id=model.model_id)
            save_model(Path(folder, "model"), weights, description)
            self._client.log_model_artifacts(model.model_id, str(Path(folder, "model")))
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _create_model(self, run: "Run") -> "LoggedModel":
        from mlflow.entities import LoggedModelOutput

        run_id, described = run.info.run_id, {"params": run.data.params, "model_type": "classifier"}
        model = self._client.create_logged_model(run.info.experiment_id, "model", run_id, **described)
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])  # refused the second time
        return model


def save_model(folder: Path, weights: Path, description: "Model | None" = None) -> None:
    """Writes the MLflow model of a file of weights: any machine with Python and the packages can load it.

    Args:
      folder: Where to; it must not exist.
      weights: The file of weights.
      description: What MLflow knows of a model that is logged.
    """
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as temporary:
        code = Path(temporary, "fedpipe")
        code.mkdir()
        for name in SERVING:
            source = PACKAGE / name
            if source.is_dir():
                shutil.copytree(source, code / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, code)
        mlflow.pyfunc.save_model(
            folder,
            python_model=Path(__file__).with_name("serving.py"),
            artifacts={"weights": str(weights)},
            code_paths=[str(code)],
            pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", *_MODEL_PACKAGES)],
            mlflow_model=description,
            **_interface(_kind_of_model(weights)),
        )


def _kind_of_model(weights: Path) -> "Kind":
    """The kind of samples and labels, as the file of weights says; without TensorFlow."""
    from safetensors import safe_open

    from fedpipe.samples.kind import Format, Kind

    with safe_open(str(weights), framework="numpy") as file:
        spec = json.loads(file.metadata()["fedpipe"])
    return Kind(tuple(spec["image_shape"]), spec["classes"], Format.model_validate(spec.get("format", {})))


def _interface(kind: "Kind") -> dict[str, Any]:
    """Signature and input example: samples, such as uint8 images [n, h, w, c], to float32 predictions [n, outputs]."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    predictions = Schema([TensorSpec(np.dtype(np.float32), (-1, kind.outputs))])
    columns, samples = kind.format.columns, kind.format.samples
    if columns is None:
        inputs = Schema([TensorSpec(np.dtype(samples), (-1, *kind.shape))])
        return {
            "signature": ModelSignature(inputs, predictions),
            "input_example": np.zeros((1, *kind.shape), samples),
        }
    import pandas as pd

    of_numbers = [ColSpec(DataType.double, column.name, column.fill is None) for column in columns.numbers]
    of_texts = [ColSpec(DataType.string, column.name, column.fill is None) for column in columns.categories]
    inputs = Schema([*of_numbers, *of_texts])
    row: dict[str, Any] = {column.name: column.mean for column in columns.numbers}
    row |= {column.name: column.categories[0] for column in columns.categories}
    return {"signature": ModelSignature(inputs, predictions), "input_example": pd.DataFrame([row])}


def _artifact_location(uri: str) -> str | None:
    """Beside a local database; a server decides for itself."""
    path = file_of(uri)
    return path.with_name(ARTIFACTS).as_uri() if path else None
