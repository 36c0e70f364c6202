"""A whole training on arrays in memory: no params.yaml, no DVC, no MLflow (docs/library.md)."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from fedpipe import pinning
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.raw import Labelled
from fedpipe.datasets.shards import write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.networks.arrays import require_images, require_indices, require_labels, require_samples
from fedpipe.networks.network import Network, Weights
from fedpipe.params import parse
from fedpipe.runtime import cohort
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.training_key import rounds_decide
from fedpipe.runtime.worker import Worker

if TYPE_CHECKING:
    import pandas as pd

    from fedpipe.runtime.checkpoint import Checkpoint
    from fedpipe.runtime.personal import ClientModels
    from fedpipe.runtime.trained import Trained
    from fedpipe.runtime.training import Training

OnRound = Callable[[RoundRecord, float], None]


@dataclass(frozen=True, eq=False)
class Personal:
    """The clients' own models, of an algorithm that has some; all of them are in memory."""

    network: Network
    models: Weights  # for each weight of the network, float32 [models, ...]
    client_model: np.ndarray  # int32 [clients]: which of the models is the client's

    def weights(self, client: int) -> Weights:
        """The weights of a client's model, in the order of network.shapes."""
        return [stacked[self.client_model[client]] for stacked in self.models]

    def predict(self, client: int, images: np.ndarray) -> np.ndarray:
        """Class probabilities float32 [n, classes] of uint8 images [n, height, width, channels]."""
        return self.network.predictor(self.weights(client))(images)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The arrays of a training, and all else that a resume does not change."""

    images: np.ndarray
    labels: np.ndarray
    clients: list[np.ndarray]
    parts: dict[str, Labelled]  # the samples on which the global model is measured
    classes: int
    first: Weights | None


@dataclass(frozen=True, eq=False)
class _End:
    """The state from which a training resumes."""

    inputs: _Inputs
    settings: Train
    checkpoint: "Checkpoint | None"  # None with secret noise
    kept: "tempfile.TemporaryDirectory[str] | None"  # with the files of what clients keep; removed with the result


@dataclass(frozen=True, eq=False)
class Simulation:
    """What `simulate` returns."""

    network: Network
    weights: Weights  # of the last round, or with keep_best the best; in the order of network.shapes
    rounds: list[RoundRecord]
    clusters: np.ndarray | None = None  # of an algorithm with clusters, that of each client: int32 [clients]
    personal: Personal | None = None  # of an algorithm with personal models or clusters
    client_rounds: "pd.DataFrame | None" = None  # with 'client_rounds', a row per round and client (docs/library.md)
    privacy: dict[str, Any] = field(default_factory=dict)  # if private: epsilon_rdp, epsilon_pld, delta, neighbours
    _end: _End | None = field(default=None, repr=False)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float32 [n, classes] of uint8 images [n, height, width, channels]."""
        return self.network.predictor(self.weights)(images)

    def continue_(self, rounds: int, on_round: OnRound | None = None, progress: bool | None = None) -> "Simulation":
        """Trains ``rounds`` further rounds, to the bits of a training that had all these rounds from the start.

        Server optimizer, algorithm, cohorts and the clients' state continue; this result stays as it is.

        Args:
          rounds: How many more.
          on_round, progress: As of `simulate`.

        Raises:
          PipelineError: ``rounds`` is no number above 0, or earlier rounds would have been others with more to come.
        """
        end = self._end
        if end is None or end.checkpoint is None:
            raise PipelineError("a training with secret noise does not go on: its state is not kept")
        if isinstance(rounds, bool) or not isinstance(rounds, int | np.integer) or rounds < 1:
            raise PipelineError(f"rounds must be the number of further rounds, 1 or more, not {rounds!r}")
        if reason := rounds_decide(end.settings):
            raise PipelineError(f"more rounds would change the earlier ones: {reason}; train anew with more rounds")
        total = len(self.rounds) + int(rounds)
        settings = type(end.settings).model_validate(end.settings.model_dump() | {"rounds": total})
        return _simulate(end.inputs, settings, None, on_round, progress, end)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a notebook's stop button, after a completed round.

    Attributes:
      result: The training up to the last completed round; its `continue_` does the rest.
    """

    def __init__(self, result: Simulation) -> None:
        super().__init__(f"after round {len(result.rounds)}; the exception's `result` has the training so far")
        self.result = result


def simulate(
    images: np.ndarray,
    labels: np.ndarray,
    clients: Sequence[np.ndarray],
    settings: Train,
    *,
    test: Labelled | None = None,
    validation: Labelled | None = None,
    classes: int | None = None,
    first: Weights | None = None,
    client_weights: Sequence[float] | np.ndarray | None = None,
    folder: Path | None = None,
    on_round: OnRound | None = None,
    progress: bool | None = None,
) -> Simulation:
    """Trains a model over clients that share a data set, on a TFF worker of its own.

    Args:
      images: uint8 [samples, height, width, channels].
      labels: uint8 [samples], from 0 to classes - 1.
      clients: For each client the indices of its samples, in the order in which it trains on them.
      settings: What `train_settings` gives.
      test: Images and labels on which the global model is measured, every ``evaluate_every`` rounds.
      validation: The same, by which rounds are chosen (``selection``); no client may train on them.
      classes: The number of classes; by default one more than the largest label.
      first: The weights before the first round, such as those of an earlier result; by default drawn from the seed.
      client_weights: The weight of each client in the mean of the updates, in the place of ``client_weighting``.
      folder: Where shards and logs go; by default a temporary folder, which is removed.
      on_round: Called after each round with its record and its seconds.
      progress: Whether each round is reported on standard error; by default if there is no ``on_round``.

    Raises:
      PipelineError: Arrays or settings do not fit together, `fedpipe.pin` has not been called, or a round failed.
      Interrupted: Ctrl-C after a completed round; its ``result`` has the rounds completed.
    """
    require_images("images", images)
    require_labels("labels", labels, len(images))
    indices = require_indices(clients, len(images))
    if not isinstance(settings, Train):
        raise PipelineError(f"settings must come from fedpipe.train_settings, not be a {type(settings).__name__}")
    if settings.init != "fresh":
        raise PipelineError(
            f"'train.init' is {settings.init}, which only the pipeline reads: pass first=weights, such as "
            "fedpipe.load_weights(path)[1]"
        )
    if settings.client_weights.table:
        raise PipelineError("'train.client_weights.table' is read by the pipeline only: pass client_weights=array")
    if client_weights is not None:
        settings = _weighted(settings, client_weights, len(indices))
    if first is not None and ALGORITHMS.of(settings.algorithm).cluster is not None:
        raise PipelineError(
            f"'train.algorithm' {settings.algorithm} starts from several models, which it draws: leave first out"
        )
    classes = _class_count(labels, classes)
    require_labels("labels", labels, len(images), classes)
    parts = {name: part for name, part in (("validation", validation), ("test", test)) if part is not None}
    for name, part in parts.items():
        require_samples(name, part, images.shape[1:], classes)
    if settings.selecting and settings.selection not in parts:
        raise PipelineError(
            f"'{settings.selecting[0]}' chooses a round by its {settings.selection} accuracy: give "
            f"{settings.selection}=(images, labels), or set selection to the samples that you give"
        )
    cohort.require_clients(settings, len(indices))
    if not pinning.is_pinned():
        raise PipelineError("call fedpipe.pin() before NumPy and TensorFlow are imported: results depend on it")
    inputs = _Inputs(
        images, labels, indices, {name: (part[0], part[1]) for name, part in parts.items()}, classes, first
    )
    return _simulate(inputs, settings, folder, on_round, progress)


def _weighted(settings: Train, weights: Any, clients: int) -> Train:
    """``settings`` with the clients' weights.

    Raises:
      PipelineError: They are not one number for each client, or the settings count clients in another way.
    """
    array = np.asarray(weights)
    if array.shape != (clients,) or array.dtype == np.bool_ or array.dtype.kind not in "iuf":
        raise PipelineError(
            f"client_weights must be one number for each of the {clients} clients, not {array.dtype} "
            f"{list(array.shape)}"
        )
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise PipelineError("client_weights must be finite numbers from 0 on, one of them above 0")
    changes = {"client_weighting": "per_client", "client_weights": {"values": array.astype(float).tolist()}}
    return parse(Train, settings.model_dump() | changes)


def _class_count(labels: np.ndarray, classes: int | None) -> int:
    """The number of classes, ``classes`` if it is given."""
    if classes is None:
        return max(2, int(labels.max()) + 1) if len(labels) else 2
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or not 2 <= classes <= 256:
        raise PipelineError(f"classes must be a number from 2 to 256, not {classes!r}")
    return int(classes)


def _simulate(
    inputs: _Inputs,
    settings: Train,
    folder: Path | None,
    on_round: OnRound | None,
    progress: bool | None,
    end: _End | None = None,
) -> Simulation:
    """Trains on validated arrays; resumes from ``end``, unless it is None."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) if folder is None else Path(folder)
        shards = place / "shards"
        shards.mkdir(parents=True, exist_ok=True)
        write_shards(shards, "arrays", inputs.images, inputs.labels, inputs.clients, inputs.classes)
        worker = stack.enter_context(Worker(place / "worker.log"))
        from fedpipe.runtime.hooks import Callback  # TensorFlow and TFF load while the worker starts
        from fedpipe.runtime.training import prepare

        if end is not None and end.kept is not None:
            shutil.copytree(end.kept.name, place / "clients", dirs_exist_ok=True)
        checkpoint = None if end is None else end.checkpoint
        training = prepare(settings, shards, place, first=_fitting(inputs, settings), resumed=checkpoint)
        trained = training.run(
            worker,
            evaluate=GlobalSamples(inputs.parts).measure if inputs.parts else None,
            hooks=[] if on_round is None else [Callback(lambda ended: on_round(ended.record, ended.seconds))],
            progress=on_round is None if progress is None else progress,
            salvage=True,
        )
        result = _result(inputs, settings, training, trained, place)
        if trained.interrupted:
            raise Interrupted(result)
        return result


def _fitting(inputs: _Inputs, settings: Train) -> Weights | None:
    """The weights to start from, if they were given.

    Raises:
      PipelineError: They do not have the shapes of the model's.
    """
    if inputs.first is None:
        return None
    from fedpipe.networks.network import network
    from fedpipe.networks.spec import ModelSpec

    height, width, channels = inputs.images.shape[1:]
    wanted = list(network(ModelSpec.of(settings, (height, width, channels), inputs.classes)).shapes.values())
    weights = [np.asarray(weight) for weight in inputs.first]
    if [tuple(weight.shape) for weight in weights] != [tuple(shape) for shape in wanted]:
        raise PipelineError(
            f"first has arrays of the shapes {[list(weight.shape) for weight in weights]}, and 'train.model' "
            f"{settings.model} for these images has {[list(shape) for shape in wanted]}"
        )
    if any(not np.issubdtype(weight.dtype, np.floating) or not np.isfinite(weight).all() for weight in weights):
        raise PipelineError("first must be arrays of finite floats")
    return [weight.astype(np.float32) for weight in weights]


def _result(inputs: _Inputs, settings: Train, training: "Training", trained: "Trained", place: Path) -> Simulation:
    """The result of a training, read before its folder is removed."""
    checkpoint, kept = trained.end, None
    if checkpoint is not None and training.kept is not None:
        last = training.kept.last.copy()
        checkpoint = replace(checkpoint, last=last, digests=np.zeros((len(last), 32), np.uint8))
        kept = tempfile.TemporaryDirectory(prefix="fedpipe-")
        for client in np.flatnonzero(last >= 0):
            shutil.copy(place / "clients" / f"{client}.{last[client]}", kept.name)
    return Simulation(
        trained.network,
        trained.best if settings.keep_best else trained.weights,
        trained.records,
        None if trained.personal is None else trained.personal.clusters,
        None if trained.personal is None else _personal(trained.personal, place / "models_of_clients.safetensors"),
        trained.client_rounds() if settings.client_rounds else None,
        trained.privacy,
        None if has_secret_noise(settings) else _End(inputs, settings, checkpoint, kept),
    )


def _personal(models: "ClientModels", file: Path) -> Personal:
    """All models, by way of a file."""
    models.write(file)
    stacked = load_file(file)
    network = models.wiring.task.network
    return Personal(network, [stacked[name] for name in network.shapes], stacked["client_model"])
