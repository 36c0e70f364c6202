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

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.datasets.raw import Labelled
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.networks.network import Network, Weights
from fedpipe.partitioning.held_out_clients import Divided
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.training_key import rounds_decide
from fedpipe.runtime.worker import Worker
from fedpipe.samples.inputs import samples_of
from fedpipe.simulation_inputs import Inputs, inputs_of
from fedpipe.simulation_samples import Standardise

if TYPE_CHECKING:
    import pandas as pd

    from fedpipe.runtime.checkpoint import Checkpoint
    from fedpipe.runtime.personal import ClientModels
    from fedpipe.runtime.trained import Trained
    from fedpipe.runtime.training import Training

_NO_MODEL = -1
_BATCH = 1000  # samples per forward pass, as 'evaluate.batch_size' by default
OnRound = Callable[[RoundRecord, float], None]


@dataclass(frozen=True, eq=False)
class Personal:
    """The clients' own models, of an algorithm that has some; all of them are in memory."""

    network: Network
    models: Weights  # for each weight of the network, float32 [models, ...]
    client_model: np.ndarray  # int32 [clients]: which of the models is the client's; -1 for one that never trained

    def weights(self, client: int) -> Weights:
        """The weights of a client's model, in the order of network.shapes.

        Raises:
          PipelineError: The client never trained, and has no model.
        """
        if self.client_model[client] == _NO_MODEL:
            raise PipelineError(f"client {client} never trained (held_out_clients), and has no model of its own")
        return [stacked[self.client_model[client]] for stacked in self.models]

    def predict(self, client: int, images: "np.ndarray | pd.DataFrame") -> np.ndarray:
        """The client's predictions, as `Simulation.predict`."""
        return _predicted(self.network, self.weights(client), images)


@dataclass(frozen=True, eq=False)
class _End:
    """The state from which a training resumes."""

    inputs: Inputs
    settings: Train
    checkpoint: "Checkpoint | None"  # None with secret noise
    kept: "tempfile.TemporaryDirectory[str] | None"  # with the files of what clients keep; removed with the result


@dataclass(frozen=True, eq=False)
class Simulation:
    """What `simulate` returns."""

    network: Network
    weights: Weights  # of the last round, or with keep_best the best; in the order of network.shapes
    rounds: list[RoundRecord]
    clusters: np.ndarray | None = None  # of an algorithm with clusters, that of each client: int32 [clients], or -1
    personal: Personal | None = None  # of an algorithm with personal models or clusters
    client_rounds: "pd.DataFrame | None" = None  # with 'client_rounds', a row per round and client (docs/library.md)
    held_out: "pd.DataFrame | None" = None  # of clients that never trained: client, samples, accuracy
    privacy: dict[str, Any] = field(default_factory=dict)  # if private: epsilon_rdp, epsilon_pld, delta, neighbours
    _end: _End | None = field(default=None, repr=False)

    def predict(self, images: "np.ndarray | pd.DataFrame") -> np.ndarray:
        """Class probabilities float32 [n, classes], or numbers float32 [n, numbers].

        ``images`` are samples as `simulate` takes them, such as uint8 [n, height, width, channels].
        """
        return _predicted(self.network, self.weights, images)

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
            raise PipelineError("a training with secret noise cannot be continued: its state is not kept")
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
    images: "np.ndarray | pd.DataFrame",
    labels: "np.ndarray | pd.Series[Any]",
    clients: Sequence[np.ndarray],
    settings: Train,
    *,
    test: Labelled | None = None,
    validation: Labelled | None = None,
    classes: int | None = None,
    first: Weights | None = None,
    client_weights: Sequence[float] | np.ndarray | None = None,
    held_out_clients: int | float | Sequence[int] | np.ndarray = 0,
    standardise: Standardise = None,
    folder: Path | None = None,
    on_round: OnRound | None = None,
    progress: bool | None = None,
) -> Simulation:
    """Trains a model over clients that share a data set, on a TFF worker of its own.

    Args:
      images: uint8 [samples, height, width, channels]; or other samples: numbers [samples, values], or a DataFrame of
        numbers and categories.
      labels: uint8 [samples], from 0 to classes - 1; of other samples any integers for classes, or floats [samples] or
        [samples, numbers] for numbers.
      clients: For each client the indices of its samples, in the order in which it trains on them.
      settings: What `train_settings` gives.
      test: Images and labels on which the global model is measured, every ``evaluate_every`` rounds.
      validation: The same, by which rounds are chosen (``selection``); no client may train on them.
      classes: The number of classes; by default one more than the largest label.
      first: The weights before the first round, such as those of an earlier result; by default drawn from the seed.
      client_weights: The weight of each client in the mean of the updates, in the place of ``client_weighting``.
      held_out_clients: Clients that never train, and have figures of their own: their number or share, then they are
        drawn from the seed, or their indices.
      standardise: ``training``: samples less their mean, divided by their deviation, of each column or channel.
      folder: Where shards and logs go; by default a temporary folder, which is removed.
      on_round: Called after each round with its record and its seconds.
      progress: Whether each round is reported on standard error; by default if there is no ``on_round``.

    Raises:
      PipelineError: Arrays or settings do not fit together, `fedpipe.pin` has not been called, or a round failed.
      Interrupted: Ctrl-C after a completed round; its ``result`` has the rounds completed.
    """
    inputs, fitting = inputs_of(
        images,
        labels,
        clients,
        settings,
        test=test,
        validation=validation,
        classes=classes,
        first=first,
        client_weights=client_weights,
        held_out_clients=held_out_clients,
        standardise=standardise,
    )
    return _simulate(inputs, fitting, folder, on_round, progress)


def _simulate(
    inputs: Inputs,
    settings: Train,
    folder: Path | None,
    on_round: OnRound | None,
    progress: bool | None,
    end: _End | None = None,
) -> Simulation:
    """Trains on validated arrays; resumes from ``end``, unless it is None."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) if folder is None else Path(folder)
        samples = inputs.write(place)
        worker = stack.enter_context(Worker(place / "worker.log"))
        from fedpipe.runtime.hooks import Callback  # TensorFlow and TFF load while the worker starts
        from fedpipe.runtime.training import prepare

        if end is not None and end.kept is not None:
            shutil.copytree(end.kept.name, place / "clients", dirs_exist_ok=True)
        checkpoint = None if end is None else end.checkpoint
        training = prepare(settings, place / "shards", place, first=inputs.first_weights(settings), resumed=checkpoint)
        trained = training.run(
            worker,
            evaluate=None if samples is None else samples.measure,
            evaluate_own=None if samples is None else samples.measure_own,
            hooks=[] if on_round is None else [Callback(lambda ended: on_round(ended.record, ended.seconds))],
            progress=on_round is None if progress is None else progress,
            salvage=True,
        )
        result = _result(inputs, settings, training, trained, place)
        if trained.interrupted:
            raise Interrupted(result)
        return result


def _result(inputs: Inputs, settings: Train, training: "Training", trained: "Trained", place: Path) -> Simulation:
    """The result of a training, read before its folder is removed."""
    checkpoint, kept = trained.end, None
    if checkpoint is not None and training.kept is not None:
        last = training.kept.last.copy()
        checkpoint = replace(checkpoint, last=last, digests=np.zeros((len(last), 32), np.uint8))
        kept = tempfile.TemporaryDirectory(prefix="fedpipe-")
        for client in np.flatnonzero(last >= 0):
            shutil.copy(place / "clients" / f"{client}.{last[client]}", kept.name)
    weights = trained.best if settings.keep_best else trained.weights
    division, personal = inputs.division, None
    if trained.personal is not None:
        personal = _personal(trained.personal, division, place / "models_of_clients.safetensors")
    clustered = personal is not None and trained.personal is not None and trained.personal.clusters is not None
    return Simulation(
        trained.network,
        weights,
        trained.records,
        personal.client_model if personal is not None and clustered else None,
        personal,
        trained.client_rounds(division.training) if settings.client_rounds else None,
        _held_out(trained.network, weights, division, place / "held_out"),
        trained.privacy,
        None if has_secret_noise(settings) else _End(inputs, settings, checkpoint, kept),
    )


def _predicted(network: Network, weights: Weights, data: Any) -> np.ndarray:
    """Predictions of images, or of rows that are still to be encoded or standardised."""
    kind = network.spec.kind
    samples = data if kind.is_image else samples_of(kind, data, "samples")
    return network.predictor(weights)(samples)


def _held_out(network: Network, weights: Weights, division: Divided, shards: Path) -> "pd.DataFrame | None":
    """The model on the clients that never trained; None if all did."""
    if not len(division.held_out):
        return None
    table = accuracy_per_client(network, weights, shards, len(division.held_out), _BATCH)
    return table.assign(client=division.held_out)


def _personal(models: "ClientModels", division: Divided, file: Path) -> Personal:
    """All models, by way of a file; clients that never trained have none."""
    models.write(file)
    stacked = load_file(file)
    network = models.wiring.task.network
    client_model = np.full(len(division.training) + len(division.held_out), _NO_MODEL, np.int32)
    client_model[division.training] = stacked["client_model"]
    return Personal(network, [stacked[name] for name in network.shapes], client_model)
