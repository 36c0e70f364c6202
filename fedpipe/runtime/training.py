"""The training loop: rounds on an engine, each evaluated if asked for, and reported as it ends."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import AGGREGATORS, ALGORITHMS, Train
from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.errors import PipelineError
from fedpipe.learning.client_work import keeps_state
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.process import build_process
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network, Weights
from fedpipe.runtime.checkpoints import Checkpoint, Checkpoints
from fedpipe.runtime.client_losses import client_losses
from fedpipe.runtime.cohort import cohort
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState
from fedpipe.runtime.phases import PhaseLog, Phases
from fedpipe.runtime.progress import reporting, say
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.stopping import held
from fedpipe.runtime.worker import Worker

# (weights) -> figures of the global model on test samples, by the name of their column
Evaluate = Callable[[Weights], dict[str, float]]


@dataclass(frozen=True)
class Trained:
    """What a training ends with."""

    weights: Weights  # of the last round
    best: Weights  # of the round with the highest test accuracy, if `keep_best`; else those of the last round
    best_round: int
    records: list[RoundRecord]
    reached: int | None  # the first round at which the test accuracy was at least that of ``stop_at``


def train(
    network: Network,
    settings: Train,
    manifest: Manifest,
    first: Weights,
    shards: Path,
    worker: Worker,
    on_round: Callable[[RoundRecord, float, Mapping[str, float]], None],
    *,
    evaluate: Evaluate | None = None,
    folder: Path,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains from the weights ``first``, or on from a checkpoint.

    Args:
      network: The model.
      settings: Section train of params.yaml.
      manifest: What the shards hold.
      first: The weights before the first round.
      shards: The folder of the shards.
      worker: Where clients run.
      on_round: Called after each round with its record, its seconds, and the seconds of each phase (phases.py).
      evaluate: Measures the global model in the rounds that ``evaluate_every`` names, and in the last one.
      folder: Where the log goes, and what clients keep from round to round while training runs.
      checkpoints: Where the training is saved, now and then and when it is stopped, and found; None for nowhere.

    Raises:
      PipelineError: A round could not be run, or the weights are not finite any more.
    """
    algorithm, aggregator = ALGORITHMS.module(settings.algorithm), AGGREGATORS.module(settings.aggregator)
    task = Task(network, settings, manifest.clients)
    kept, resumed = None, checkpoints.found if checkpoints else None
    if keeps_state(task, algorithm):
        there = checkpoints.kept_state(manifest.clients) if checkpoints else None
        kept = there or KeptState(folder / "clients", manifest.clients)
    sizes = np.diff(Shards.open(shards).offsets)
    reader = ClientReader(shards, kept.folder if kept else None)
    process = build_process(task, algorithm, aggregator, first, reader)
    worker.wait_until_ready()
    size = manifest.clients if settings.clients_per_round == "all" else settings.clients_per_round
    every = settings.evaluate_every if evaluate is not None else 0
    so_far = _SoFar(resumed)
    phases, log = Phases(), PhaseLog(folder / "phases.csv", resumed is not None)
    with (
        reporting(folder / "rounds.log", settings.rounds, len(so_far.records)) as report,
        Engine(process, worker, size, phases) as engine,
        client_losses(task, shards, worker, engine) as losses,
        _saved_when_stopped(engine, so_far, checkpoints, kept) as save,
    ):
        if resumed is not None:
            engine.restore(resumed.state)
        while len(so_far.records) < settings.rounds and not _reached(settings, so_far.records):
            start, number = time.perf_counter(), len(so_far.records) + 1
            asked = cohort(settings, sizes, number, losses)
            clients = asked.clients
            who = reader.asked(clients, kept.last[clients] if kept else -1, asked.work)
            if settings.availability.decides_who and not len(clients):
                measured = engine.skip_round()
            else:
                measured = engine.run_round(who, partial(report.clients, number, len(clients)))
            figures: dict[str, Any] = {}
            best = so_far.best
            if evaluate is not None and every and (number % every == 0 or number == settings.rounds):
                with phases.timed("evaluate"):
                    weights = _finite(engine.weights())
                    figures = evaluate(weights)
                if settings.keep_best and (best is None or figures["test_accuracy"] > best[0]):
                    best = (figures["test_accuracy"], number, weights)
            sizes_sent = process.bytes_down, process.bytes_up
            record = RoundRecord.of(number, len(clients), measured, *sizes_sent, figures, asked.counts)
            seconds = time.perf_counter() - start
            with held():
                so_far.add(record, seconds, best)
                if kept:
                    kept.advance(clients, number)
            took = phases.end_round()
            log.add(number, len(clients), seconds, took)
            report.round(record, seconds)
            with phases.timed("deliver"):
                on_round(record, seconds, took)
            if checkpoints and checkpoints.due():
                with phases.timed("checkpoint"):
                    save()
        last = _finite(engine.weights())
    records = so_far.records
    reached = len(records) if _reached(settings, records) else None
    best = so_far.best or (0.0, len(records), last)
    return Trained(last, best[2], best[1], records, reached)


class _SoFar:
    """What a training has come to; it changes only when a round is whole."""

    def __init__(self, resumed: Checkpoint | None) -> None:
        self.records = list(resumed.records) if resumed else []
        self.seconds = list(resumed.seconds) if resumed else []
        self.best = resumed.best if resumed else None
        self._resumed = len(self.records)

    def add(self, record: RoundRecord, seconds: float, best: tuple[float, int, Weights] | None) -> None:
        """Adds a round."""
        self.records.append(record)
        self.seconds.append(seconds)
        self.best = best

    def checkpoint(self, engine: Engine) -> Checkpoint:
        """The training after the last whole round; the engine may be one round further."""
        ahead = self._resumed + engine.rounds - len(self.records)
        return Checkpoint(list(self.records), list(self.seconds), engine.state(before_last=ahead == 1), self.best)


@contextmanager
def _saved_when_stopped(
    engine: Engine, so_far: _SoFar, checkpoints: Checkpoints | None, kept: KeptState | None
) -> Iterator[Callable[[], None]]:
    """Yields a function that saves the training; saves it also when the block is stopped by a signal.

    A save that fails is said and does not end the training, which can do without.
    """
    saved = len(so_far.records)

    def save() -> None:
        nonlocal saved
        if checkpoints is None or not checkpoints.enabled or len(so_far.records) == saved:
            return
        try:
            with checkpoints.timed():
                checkpoints.save(so_far.checkpoint(engine), kept)
            saved = len(so_far.records)
        except OSError as error:
            say(f"the checkpoint after round {len(so_far.records)} could not be written: {error.strerror or error}")

    try:
        yield save
    except KeyboardInterrupt:
        try:
            save()
        except PipelineError as error:
            say(f"the last rounds could not be saved: {error}")
        if saved and checkpoints is not None and checkpoints.enabled:
            say(f"stopped; run it again to go on after round {saved}")
        raise


def _reached(settings: Train, records: Sequence[RoundRecord]) -> bool:
    """Whether the last round has the test accuracy at which training ends."""
    target = settings.stop_at.accuracy
    accuracy = records[-1].test_accuracy if records else None
    return target is not None and accuracy is not None and accuracy >= target


def _finite(weights: Weights) -> Weights:
    """``weights``, if they are numbers.

    Raises:
      PipelineError: They are not.
    """
    if not all(np.isfinite(w).all() for w in weights):
        raise PipelineError(
            "the trained weights are not finite; lower 'train.server_optimizer.learning_rate' in params.yaml"
        )
    return weights
