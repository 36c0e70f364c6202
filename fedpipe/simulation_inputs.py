"""The arguments of `fedpipe.simulate`: checked as a whole, and made what a training takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe import pinning
from fedpipe.config.client_weights import ClientWeights
from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.raw import Labelled
from fedpipe.datasets.shards import write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.networks.arrays import require_indices
from fedpipe.networks.network import Weights, network
from fedpipe.networks.spec import ModelSpec
from fedpipe.params import parse
from fedpipe.partitioning.held_out_clients import Divided, divided
from fedpipe.runtime import cohort
from fedpipe.simulation_samples import Described, Standardise, described


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arrays of a training, and all else that a resume does not change."""

    described: Described  # samples and labels
    clients: list[np.ndarray]  # the indices of each client's samples
    division: Divided  # of the clients, by whether they train
    parts: dict[str, Labelled]  # the samples on which the global model is measured
    first: Weights | None

    def write(self, folder: Path) -> GlobalSamples | None:
        """Writes the shards, and those of held-out clients; the samples on which rounds are measured."""
        count, numbers = len(self.division.held_out), self.division.numbers()
        self._write(folder / "shards", self.division.training, numbers)
        if count:
            self._write(folder / "held_out", self.division.held_out, self.division.held_out)
        if not self.parts and not count:
            return None
        return GlobalSamples(self.parts, held_out=folder / "held_out" if count else None, held_out_clients=count)

    def _write(self, shards: Path, clients: np.ndarray, numbers: np.ndarray | None) -> None:
        shards.mkdir(parents=True, exist_ok=True)
        members = [self.clients[client] for client in clients]
        made = self.described
        write_shards(
            shards,
            "arrays",
            made.samples,
            made.labels,
            members,
            made.classes,
            sample_format=made.format,
            numbers=numbers,
        )

    def first_weights(self, settings: Train) -> Weights | None:
        """The weights to start from; None if they are drawn.

        Raises:
          PipelineError: They do not have the shapes of the model's.
        """
        if self.first is None:
            return None
        wanted = list(network(ModelSpec.of(settings, *self.described.kind)).shapes.values())
        weights = [np.asarray(weight) for weight in self.first]
        if [tuple(weight.shape) for weight in weights] != [tuple(shape) for shape in wanted]:
            raise PipelineError(
                f"first has arrays of the shapes {[list(weight.shape) for weight in weights]}, and 'train.model' "
                f"{settings.model} for these samples has {[list(shape) for shape in wanted]}"
            )
        if any(not np.issubdtype(weight.dtype, np.floating) or not np.isfinite(weight).all() for weight in weights):
            raise PipelineError("first must be arrays of finite floats")
        return [weight.astype(np.float32) for weight in weights]


def inputs_of(
    samples: Any,
    labels: Any,
    clients: Sequence[np.ndarray],
    settings: Train,
    *,
    test: Labelled | None,
    validation: Labelled | None,
    classes: int | None,
    first: Weights | None,
    client_weights: Sequence[float] | np.ndarray | None,
    held_out_clients: int | float | Sequence[int] | np.ndarray,
    standardise: Standardise,
) -> tuple[Inputs, Train]:
    """Checks the arguments of `simulate`; the settings are those of the clients that train.

    Raises:
      PipelineError: Arrays or settings do not fit together, or `fedpipe.pin` has not been called.
    """
    made = described(samples, labels, classes, standardise)
    indices = require_indices(clients, len(made.samples))
    if not isinstance(settings, Train):
        raise PipelineError(f"settings must come from fedpipe.train_settings, not be a {type(settings).__name__}")
    _require_own(settings, first)
    measured = (("validation", validation), ("test", test))
    parts = {name: made.measured(name, part) for name, part in measured if part is not None}
    if settings.selecting and settings.selection not in parts:
        raise PipelineError(
            f"'{settings.selecting[0]}' chooses a round by its {settings.selection} accuracy: give "
            f"{settings.selection}=(images, labels), or set selection to the samples that you give"
        )
    division = _division(held_out_clients, len(indices), settings)
    settings = _weighted(settings, client_weights, len(indices), division.training)
    cohort.require_clients(settings, len(division.training))
    if not pinning.is_pinned():
        raise PipelineError("call fedpipe.pin() before NumPy and TensorFlow are imported: results depend on it")
    return Inputs(made, indices, division, parts, first), settings


def _require_own(settings: Train, first: Weights | None) -> None:
    """Raises PipelineError for files that only the pipeline reads, and for first weights that are not used."""
    if settings.init != "fresh":
        raise PipelineError(
            f"'train.init' is {settings.init}, which only the pipeline reads: pass first=weights, such as "
            "fedpipe.load_weights(path)[1]"
        )
    if settings.client_weights.table:
        raise PipelineError("'train.client_weights.table' is read by the pipeline only: pass client_weights=array")
    if first is not None and ALGORITHMS.of(settings.algorithm).cluster is not None:
        raise PipelineError(
            f"'train.algorithm' {settings.algorithm} starts from several models, which it draws: leave first out"
        )


def _division(requested: Any, clients: int, settings: Train) -> Divided:
    """Which clients never train.

    Raises:
      PipelineError: ``requested`` is no number, share or list of clients, or leaves none to train.
    """
    array = np.asarray(requested)
    is_list = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
    if not is_list and (array.ndim or array.dtype.kind not in "iuf"):
        raise PipelineError(
            f"held_out_clients must be a number of clients, their share (0.1), or a list of indices, not {requested!r}"
        )
    if array.ndim == 0:
        count = array.item()
        if count < 0 or (isinstance(count, float) and not count < 1):
            raise PipelineError(f"held_out_clients is {count}: give a number from 0 on, or a share below 1")
        division = divided(count, clients, clients, settings.seed)
        if count and not len(division.held_out):
            raise PipelineError(f"held_out_clients is {count}, which holds out none of {clients} clients")
    else:
        held_out = np.unique(array.astype(np.int64))
        if len(held_out) < array.size or (array.size and (held_out[0] < 0 or held_out[-1] >= clients)):
            raise PipelineError(
                f"held_out_clients must be different indices from 0 to {clients - 1}, not {array.tolist()}"
            )
        division = Divided(np.setdiff1d(np.arange(clients), held_out), held_out)
    if not len(division.training):
        raise PipelineError(f"held_out_clients leaves none of {clients} clients to train")
    if len(division.held_out) and settings.cohort == "fixed":
        raise PipelineError("held_out_clients and 'train.cohort' fixed both say who trains: leave one of them out")
    if len(division.held_out) and ALGORITHMS.of(settings.algorithm).HAS_NO_GLOBAL_MODEL:
        raise PipelineError(
            f"held_out_clients are clients without a model of their own, and 'train.algorithm' {settings.algorithm} "
            "has no global model for them: leave held_out_clients out"
        )
    return division


def _weighted(settings: Train, weights: Any, clients: int, training: np.ndarray) -> Train:
    """``settings`` with one weight for each client that trains, if clients have weights of their own.

    Raises:
      PipelineError: They are not one number for each client, or the settings count clients in another way.
    """
    if weights is not None:
        array = np.asarray(weights)
        if array.shape != (clients,) or array.dtype.kind not in "iuf":
            raise PipelineError(
                f"client_weights must be one number for each of the {clients} clients, not {array.dtype} "
                f"{list(array.shape)}"
            )
        if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
            raise PipelineError("client_weights must be finite numbers from 0 on, one of them above 0")
        changes = {"client_weighting": "per_client", "client_weights": {"values": array.astype(float).tolist()}}
        settings = parse(Train, settings.model_dump() | changes)
    values = settings.client_weights.values
    if not values or len(values) != clients:
        return settings  # the training says which number is wrong
    chosen = ClientWeights(values=[values[number] for number in training])
    return settings.model_copy(update={"client_weights": chosen})
