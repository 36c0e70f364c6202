"""A whole training on arrays in memory: no params.yaml, no DVC, no MLflow (docs/library.md)."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from fedpipe import pinning
from fedpipe.config.train import Train
from fedpipe.datasets.raw import Labelled
from fedpipe.datasets.shards import write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.networks.network import Network, Weights
from fedpipe.runtime import cohort
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.worker import Worker

if TYPE_CHECKING:
    from fedpipe.runtime.personal import ClientModels


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
class Simulation:
    """What `simulate` returns."""

    network: Network
    weights: Weights  # of the last round, or with keep_best the best; in the order of network.shapes
    rounds: list[RoundRecord]
    clusters: np.ndarray | None = None  # of an algorithm with clusters, that of each client: int32 [clients]
    personal: Personal | None = None  # of an algorithm with personal models or clusters
    privacy: dict[str, Any] = field(default_factory=dict)  # if private: epsilon_rdp, epsilon_pld, delta, neighbours

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float32 [n, classes] of uint8 images [n, height, width, channels]."""
        return self.network.predictor(self.weights)(images)


def simulate(
    images: np.ndarray,
    labels: np.ndarray,
    clients: Sequence[np.ndarray],
    settings: Train,
    *,
    test: Labelled | None = None,
    validation: Labelled | None = None,
    classes: int | None = None,
    folder: Path | None = None,
    on_round: Callable[[RoundRecord, float], None] | None = None,
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
      folder: Where shards and logs go; by default a temporary folder, which is removed.
      on_round: Called after each round with its record and its seconds.

    Raises:
      PipelineError: Arrays or settings do not fit together, `fedpipe.pin` has not been called, or a round failed.
    """
    _check(images, labels, clients)
    cohort.check(settings, len(clients))
    parts = {name: part for name, part in (("validation", validation), ("test", test)) if part is not None}
    if settings.selecting and settings.selection not in parts:
        raise PipelineError(
            f"'{settings.selecting[0]}' chooses a round by its {settings.selection} accuracy: give "
            f"{settings.selection}=(images, labels), or set selection to the samples that you give"
        )
    if any(os.environ.get(name) != value for name, value in pinning.PINNED.items()):
        raise PipelineError("call fedpipe.pin() before NumPy and TensorFlow are imported: results depend on it")
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) if folder is None else folder
        shards = place / "shards"
        shards.mkdir(parents=True, exist_ok=True)
        count = int(labels.max()) + 1 if classes is None else classes
        write_shards(shards, "arrays", images, labels, list(clients), count)
        worker = stack.enter_context(Worker(place / "worker.log"))
        from fedpipe.runtime.hooks import Callback  # TensorFlow and TFF load while the worker starts
        from fedpipe.runtime.training import prepare

        training = prepare(settings, shards, place)
        model = training.wiring.task.network
        trained = training.run(
            worker,
            evaluate=partial(GlobalSamples(parts).measure, model, settings=settings) if parts else None,
            hooks=[] if on_round is None else [Callback(lambda ended: on_round(ended.record, ended.seconds))],
        )
        return Simulation(
            model,
            trained.best if settings.keep_best else trained.weights,
            trained.records,
            None if trained.personal is None else trained.personal.clusters,
            None if trained.personal is None else _personal(trained.personal, place / "models_of_clients.safetensors"),
            trained.privacy,
        )


def _personal(models: "ClientModels", file: Path) -> Personal:
    """All models, by way of a file."""
    models.write(file)
    stacked = load_file(file)
    network = models.wiring.task.network
    return Personal(network, [stacked[name] for name in network.shapes], stacked["client_model"])


def _check(images: np.ndarray, labels: np.ndarray, clients: Sequence[np.ndarray]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise PipelineError(f"images must be uint8 [n, height, width, channels], not {images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise PipelineError(f"labels must be uint8 [{len(images)}], one per image, not {labels.dtype} {labels.shape}")
    for client, indices in enumerate(clients):
        indices = np.asarray(indices)
        if indices.size and (indices.min() < 0 or indices.max() >= len(images)):
            raise PipelineError(
                f"clients[{client}] has indices from {indices.min()} to {indices.max()}; there are samples 0 to "
                f"{len(images) - 1}"
            )
