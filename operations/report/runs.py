"""A run as the report needs it: its params, tables and pictures, read from wherever it is kept."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.errors import PipelineError
from fedpipe.tracking import naming, run_events
from fedpipe.tracking.past_runs import seconds_per_round
from fedpipe.tracking.pipeline import TRAINED_BY
from layout import (
    CLASS_TABLE,
    CLIENT_ROUNDS,
    CLIENT_TABLE,
    EVALUATION,
    PARTITION,
    PARTITION_PICTURE,
    PREDICTIONS,
    ROUNDS,
    TRAINING,
    store,
)
from operations.report.sources import Source

# The columns that the report reads.
_COLUMNS = {
    ROUNDS: ("round", "train_loss", "train_accuracy", "clients", "examples", "bytes_down", "bytes_up"),
    CLASS_TABLE: ("class", "precision", "recall", "support"),
    CLIENT_TABLE: ("client", "train_samples", "train_accuracy"),
    PREDICTIONS: ("actual", "predicted"),
    CLIENT_ROUNDS: ("round", "client", "train_loss", "train_accuracy", "update_norm"),
}


@dataclass(frozen=True)
class Run:
    """One run. What may lack (a picture that is in no cache, times) is None, and ``missing`` says why.

    ``params`` are those that the figures were made with; ``stale`` says in sentences what changed since.
    ``confusion`` counts test images, [classes, classes], rows the actual class; ``seconds`` is indexed by round.
    """

    name: str
    title: str  # the training, in a few words
    origin: dict[str, str]
    params: dict[str, str]  # dotted name to text
    metrics: dict[str, float]  # by their names in MLflow; what is measured for each class is in `classes`
    rounds: pd.DataFrame
    classes: pd.DataFrame
    clients: pd.DataFrame
    confusion: np.ndarray | None
    partition_picture: bytes | None
    seconds: pd.Series | None
    client_rounds: pd.DataFrame | None = None  # with 'train.client_rounds'
    missing: dict[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    def clients_with(self, column: str) -> pd.DataFrame:
        """The rows of the clients that an accuracy is about: those that train, or those that never do."""
        samples = samples_column(column)
        return self.clients[self.clients[samples].notna()] if samples in self.clients else self.clients


def samples_column(accuracy: str) -> str:
    """The column of the client table with the number of samples on which an accuracy is measured."""
    if accuracy == "held_out_personalised_accuracy":
        return "held_out_test_samples"
    return "held_out_samples" if accuracy.startswith("held_out_") else f"{accuracy.partition('_')[0]}_samples"


def read(source: Source) -> Run:
    """Reads a run.

    Raises:
      PipelineError: Params, metrics or tables are not there or are not what the pipeline writes.
    """
    tree = _params(source)
    training, evaluation = _json(source, TRAINING), _json(source, EVALUATION)
    classes = _table(source, CLASS_TABLE)
    missing: dict[str, str] = {}
    withholds = training.get("noise") == "secret"
    if withholds:
        missing["partition"] = missing["seconds"] = "withheld, for the training has secret noise (docs/privacy.md)"
    return Run(
        name=source.name,
        title=_title(tree, source),
        origin=source.origin | {"weights": str(training.get("weights_sha256", "unknown"))},
        params=run_events.flat_params(tree),
        metrics=_metrics(training, evaluation)
        | ({} if withholds else _numbers(_partition_figures(source), "partition/")),
        rounds=_table(source, ROUNDS),
        classes=classes,
        clients=_table(source, CLIENT_TABLE),
        confusion=_confusion(source, len(classes), missing),
        partition_picture=None if withholds else _partition_picture(source, missing),
        seconds=None if withholds else _seconds(str(training.get("weights_sha256", "")), missing),
        client_rounds=_client_rounds(source, tree, missing),
        missing=missing,
        stale=_stale(source),
    )


def _params(source: Source) -> dict[str, Any]:
    try:
        return source.params()
    except PipelineError as error:
        raise PipelineError(f"{source.name}: {error}") from None


def _title(tree: Mapping[str, Any], source: Source) -> str:
    sections = [tree[name] for name in TRAINED_BY if name in tree]
    if not sections or not all(isinstance(section, Mapping) for section in sections):
        raise PipelineError(
            f"no params of partition and train are recorded for {source.name}: it is no run of this pipeline"
        )
    return naming.title(tree)


def _stale(source: Source) -> tuple[str, ...]:
    try:
        stale = source.stale()
    except PipelineError as error:
        return (f"whether its results are of the present params and code is not known: {error}",)
    return tuple(
        f"{stage}: what is shown is "
        + ("not of its last recorded run, so its params are not known" if stage.outputs else "of its last run")
        + ", and `dvc repro` runs it again"
        for stage in stale
    )


def _json(source: Source, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(source.read(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} of {source.name} is not the JSON that the pipeline writes: run 'dvc repro' again")
    return content


def _partition_figures(source: Source) -> dict[str, Any]:
    """How skewed the partition is; nothing for a run of before there were such figures."""
    try:
        source.read(PARTITION)
    except PipelineError:
        return {}
    return _json(source, PARTITION)


def _table(source: Source, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(source.read(path)))
    except ValueError:  # pandas' parser errors are such
        table = pd.DataFrame()
    lacking = [column for column in _COLUMNS[path] if column not in table.columns]
    if lacking or table.empty:
        raise PipelineError(
            f"{path} of {source.name} has no {f'column {lacking[0]}' if lacking else 'rows'}: run 'dvc repro' again"
        )
    return table


def _metrics(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Figures on test samples, then on training samples, then those of the training as a whole."""
    whole = {name: value for name, value in training.items() if name != "train"}
    return _numbers(evaluation) | _numbers({"train": training.get("train", {})}) | _numbers(whole, "training/")


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested metrics by their names in MLflow; precision and recall, one per class, are in a table."""
    numbers: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            numbers |= {} if key in ("precision", "recall") else _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers


def _client_rounds(source: Source, tree: Mapping[str, Any], missing: dict[str, str]) -> pd.DataFrame | None:
    if not tree.get("train", {}).get("client_rounds", False):
        return None
    try:
        return _table(source, CLIENT_ROUNDS)
    except PipelineError as error:
        missing["client_rounds"] = str(error)
        return None


def _confusion(source: Source, classes: int, missing: dict[str, str]) -> np.ndarray | None:
    try:
        table = _table(source, PREDICTIONS)
    except PipelineError as error:
        missing["confusion"] = str(error)
        return None
    if not {"actual", "predicted"} <= set(table) or table["actual"].dtype.kind not in "iu":
        missing["confusion"] = "labels are numbers, which have no confusion matrix"
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (table["actual"].to_numpy(), table["predicted"].to_numpy()), 1)
    return counts


def _partition_picture(source: Source, missing: dict[str, str]) -> bytes | None:
    try:
        return source.read(PARTITION_PICTURE)
    except PipelineError as error:
        missing["partition"] = str(error)
        return None


def _seconds(weights_sha256: str, missing: dict[str, str]) -> pd.Series | None:
    """Times are no output of the pipeline, since they differ from run to run; MLflow has them."""
    try:
        seconds = seconds_per_round(weights_sha256, store())
    except PipelineError as error:
        missing["seconds"] = str(error)
        return None
    if not seconds:
        missing["seconds"] = "this MLflow store has no run that trained these weights, so their time is not known"
        return None
    return pd.Series(seconds, name="seconds").rename_axis("round")
