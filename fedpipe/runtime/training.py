"""The training loop: rounds on an engine, each evaluated if asked for, and reported as it ends."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS, asynchrony_of
from fedpipe.contracts.cohort import COHORTS
from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.errors import DivergedError, PipelineError
from fedpipe.learning.client_work import keeps_state
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.process import Process, build_process
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network, Weights
from fedpipe.privacy.ledger import Ledger
from fedpipe.privacy.noise import secret_key
from fedpipe.runtime import collecting
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.availability import Message
from fedpipe.runtime.checkpoints import Checkpoint, Checkpoints
from fedpipe.runtime.chunks import Elsewhere, WorkersLostError
from fedpipe.runtime.client_losses import client_losses
from fedpipe.runtime.cohort import Cohort, cohort
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState
from fedpipe.runtime.personal import ClientModels, personal_models
from fedpipe.runtime.phases import PhaseLog, Phases
from fedpipe.runtime.progress import reporting, say
from fedpipe.runtime.records import RoundRecord, require_contribution
from fedpipe.runtime.worker import Worker
from fedpipe.system.signals import held

# (weights) -> figures of the global model on validation and test samples, by the name of their column
Evaluate = Callable[[Weights], dict[str, float]]


@dataclass(frozen=True)
class Trained:
    """What a training ends with."""

    weights: Weights  # of the last round
    best: Weights  # of the round that `selection` chooses, if `keep_best`; else those of the last round
    best_round: int
    records: list[RoundRecord]
    reached: int | None  # the first round at which the accuracy was at least that of ``stop_at``
    privacy: dict[str, Any]  # what the training spent (`Ledger.summary`); empty if it is not private
    personal: ClientModels | None = None  # the clients' personal models, if the algorithm has any


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
    elsewhere: Elsewhere | None = None,
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
      elsewhere: Other machines where clients run; by default they run on ``worker``.

    Raises:
      PipelineError: The aggregator does not fit the cohort or the memory, a round could not be run, or the weights are
        not finite any more.
    """
    algorithm, aggregator = ALGORITHMS.of(settings.algorithm), AGGREGATORS.of(settings.aggregator)
    drawing, key = settings, None
    if has_secret_noise(settings):
        # Who knows the cohorts needs no sampling to look through, so these are as secret as the noise.
        drawing, key = settings.model_copy(update={"seed": secrets.randbits(128)}), secret_key()
        say("noise and cohorts come from the system's generator: no other run has these bits, none goes on with them")
    task = Task(network, settings, manifest.clients, key)
    collecting.check(task, aggregator)
    kept, resumed = None, checkpoints.found if checkpoints else None
    if keeps_state(task, algorithm):
        there = checkpoints.kept_state(manifest.clients) if checkpoints else None
        kept = there or KeptState(folder / "clients", manifest.clients)
    sizes = np.diff(Shards.open(shards).offsets)
    ledger = Ledger.of(settings, manifest.clients, lambda number: cohort(drawing, sizes, number).clients)
    rounds = settings.rounds if ledger is None else ledger.rounds()
    # Where chance decides who is left, they may have no sample; and a private training must not tell that by its end.
    may_be_empty = COHORTS.of(settings.cohort).MAY_BE_EMPTY
    may_be_empty = may_be_empty or settings.availability.decides_who or ledger is not None
    reader = ClientReader(shards, kept.folder if kept else None)
    process = build_process(task, algorithm, aggregator, first, reader)
    worker.wait_until_ready()
    if elsewhere is not None:
        if key is not None:
            raise PipelineError(
                "params.yaml: 'train.privacy.noise' is secret, and a secret does not travel to a cluster's workers: "
                "train on this machine alone (unset FEDPIPE_CLUSTER), or set it to seeded"
            )
        elsewhere.begin(kept.folder if kept else None)
    rules = asynchrony_of(settings)
    message = _message(settings, process)
    draw: Callable[..., Cohort] = partial(cohort, drawing, sizes, message=message)
    size = manifest.clients if settings.clients_per_round == "all" else settings.clients_per_round
    if rules is not None:
        draw, size = Schedule(drawing, rules, sizes, message).cohort, 2 * rules.buffer_size  # as many start as arrive
    every = settings.evaluate_every if evaluate is not None else 0
    so_far = _SoFar(resumed)
    phases, log = Phases(), PhaseLog(folder / "phases.csv", resumed is not None)
    with (
        reporting(folder / "rounds.log", rounds, len(so_far.records)) as report,
        Engine(process, worker, size, elsewhere, phases) as engine,
        client_losses(task, shards, worker, engine) as losses,
        _saved_when_stopped(engine, so_far, checkpoints, kept) as save,
    ):
        if resumed is not None:
            engine.restore(resumed.state)
        while len(so_far.records) < rounds and not _reached(settings, so_far.records):
            start, number = time.perf_counter(), len(so_far.records) + 1
            asked = draw(number, losses)
            clients = asked.clients
            requests = asked.packed(kept)
            # Noise must not be missing where nobody was: that would tell it.
            if not len(clients) and ledger is None:
                measured = engine.skip_round()
            else:
                measured = engine.run_round(requests, partial(report.clients, number, len(clients)))
            figures: dict[str, Any] = {}
            best = so_far.best
            if evaluate is not None and every and (number % every == 0 or number == rounds):
                with phases.timed("evaluate"):
                    weights = _finite(engine.weights())
                    figures = evaluate(weights)
                if settings.keep_best and (best is None or figures[f"{settings.selection}_accuracy"] > best[0]):
                    best = (figures[f"{settings.selection}_accuracy"], number, weights)
            if ledger is not None:
                figures = {**figures, "epsilon": ledger.epsilon(number)}
            require_contribution(number, asked, measured, may_be_empty)
            record = RoundRecord.of(number, asked, measured, process.bytes, figures)
            seconds = time.perf_counter() - start
            with held():
                so_far.add(record, seconds, best)
                if kept:
                    kept.advance(asked.trained, number)
            took = phases.end_round()
            log.add(number, len(clients), seconds, took)
            report.round(record, seconds)
            with phases.timed("deliver"):
                on_round(record, seconds, took)
            if checkpoints and checkpoints.due():
                with phases.timed("checkpoint"):
                    save()
        last = _finite(engine.weights())
        personal = personal_models(task, algorithm, process, engine, reader, kept)
    records = so_far.records
    reached = len(records) if _reached(settings, records) else None
    best = so_far.best or (0.0, len(records), last)
    spent = {} if ledger is None else ledger.summary(len(records))
    return Trained(last, best[2], best[1], records, reached, spent, personal)


def _message(settings: Train, process: Process) -> Message:
    """What goes to and from a client in a round.

    Raises:
      PipelineError: It takes time, and how long is known only when the client has trained.
    """
    down, up, compressed = process.bytes
    if compressed is None and settings.availability.devices.bandwidth.up:
        raise PipelineError(
            "params.yaml: 'train.availability.devices.bandwidth.up' needs the size of an update before its client "
            f"trains, and fedpipe/compressors/{settings.compressor}.py says it after: return it as a constant, or set "
            "'up' to 0.0"
        )
    return Message(down, up + (compressed or 0))


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
    """Yields a function that saves the training; saves it also when the block is stopped by a signal or for
    want of workers.

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
    except (KeyboardInterrupt, WorkersLostError):
        try:
            save()
        except PipelineError as error:
            say(f"the last rounds could not be saved: {error}")
        if saved and checkpoints is not None and checkpoints.enabled:
            say(f"stopped; run it again to go on after round {saved}")
        raise


def _reached(settings: Train, records: Sequence[RoundRecord]) -> bool:
    """Whether the last round has the accuracy at which training ends."""
    target = settings.stop_at.accuracy
    accuracy = records[-1].accuracy_on(settings.selection) if records else None
    return target is not None and accuracy is not None and accuracy >= target


def _finite(weights: Weights) -> Weights:
    """``weights``, if they are numbers.

    Raises:
      DivergedError: They are not.
    """
    if not all(np.isfinite(w).all() for w in weights):
        raise DivergedError(
            "the trained weights are not finite; lower 'train.server_optimizer.learning_rate' in params.yaml"
        )
    return weights
