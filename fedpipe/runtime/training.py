"""The training loop: rounds on an engine, each evaluated if asked for, and reported as it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import AGGREGATORS, ALGORITHMS, Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.process import build_process
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network, Weights
from fedpipe.runtime.cohort import cohort
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState
from fedpipe.runtime.progress import reporting
from fedpipe.runtime.records import RoundRecord
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
    on_round: Callable[[RoundRecord, float], None],
    *,
    evaluate: Evaluate | None = None,
    folder: Path,
) -> Trained:
    """Trains from the weights ``first``.

    Args:
      network: The model.
      settings: Section train of params.yaml.
      manifest: What the shards hold.
      first: The weights before the first round.
      shards: The folder of the shards.
      worker: Where clients run.
      on_round: Called after each round with its record and its seconds.
      evaluate: Measures the global model in the rounds that ``evaluate_every`` names, and in the last one.
      folder: Where the log goes, and what clients keep from round to round while training runs.

    Raises:
      PipelineError: A round could not be run, or the weights are not finite any more.
    """
    algorithm, aggregator = ALGORITHMS.module(settings.algorithm), AGGREGATORS.module(settings.aggregator)
    task = Task(network, settings, manifest.clients)
    kept = KeptState(folder / "clients", manifest.clients) if hasattr(algorithm, "client_init") else None
    reader = ClientReader(shards, kept.folder if kept else None)
    process = build_process(task, algorithm, aggregator, first, reader)
    worker.wait_until_ready()
    size = manifest.clients if settings.clients_per_round == "all" else settings.clients_per_round
    every = settings.evaluate_every if evaluate is not None else 0
    records: list[RoundRecord] = []
    best: tuple[float, int, Weights] | None = None
    reached = None
    with reporting(folder / "rounds.log", settings.rounds) as report, Engine(process, worker, size) as engine:
        for number in range(1, settings.rounds + 1):
            start = time.perf_counter()
            clients = np.asarray(cohort(settings, manifest.clients, number), np.int32)
            measured = engine.run_round(kept.ask(clients) if kept else clients)
            if kept:
                kept.advance(clients, number)
            figures: dict[str, Any] = {}
            if evaluate is not None and every and (number % every == 0 or number == settings.rounds):
                weights = _finite(engine.weights())
                figures = evaluate(weights)
                if best is None or figures["test_accuracy"] > best[0]:
                    best = (figures["test_accuracy"], number, weights)
            record = RoundRecord.of(number, len(clients), measured, process.bytes_down, process.bytes_up, figures)
            seconds = time.perf_counter() - start
            records.append(record)
            report(record, seconds)
            on_round(record, seconds)
            target = settings.stop_at.accuracy
            if target is not None and record.test_accuracy is not None and record.test_accuracy >= target:
                reached = number
                break
        last = _finite(engine.weights())
    if best is None or not settings.keep_best:
        best = (0.0, len(records), last)
    return Trained(last, best[2], best[1], records, reached)


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
