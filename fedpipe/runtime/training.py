"""The training loop: rounds on a runtime, each reported as it ends."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fedpipe.config import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.models.zoo import ModelSpec, Weights
from fedpipe.runtime.algorithm import build_process
from fedpipe.runtime.cohort import cohort
from fedpipe.runtime.initial import first_weights
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.runtime import Runtime
from fedpipe.runtime.worker import Worker

LOG = Path("logs/train/rounds.log")


def train(
    settings: Train,
    manifest: Manifest,
    shards: Path,
    worker: Worker,
    on_round: Callable[[RoundRecord, float], None],
) -> tuple[ModelSpec, Weights, list[RoundRecord]]:
    """Trains from the weights that ``settings.init`` names.

    Args:
      settings: Section train of params.yaml.
      manifest: What the shards hold.
      shards: Their folder.
      worker: Where clients run.
      on_round: Called after each round with its record and its seconds.

    Returns:
      The model, its trained weights, and a record a round.

    Raises:
      PipelineError: A round could not be run, or the weights are not finite any more.
    """
    spec = ModelSpec(settings.model, manifest.image_shape, manifest.classes)
    initial = first_weights(spec, settings)
    model_bytes = sum(w.nbytes for w in initial)
    records = []
    worker.wait_until_ready()
    process = build_process(spec, settings, initial, shards)
    size = manifest.clients if settings.clients_per_round == "all" else settings.clients_per_round
    with _reporting(settings.rounds) as report, Runtime(process, worker, size) as runtime:
        for number in range(1, settings.rounds + 1):
            start = time.perf_counter()
            clients = cohort(settings, manifest.clients, number)
            measurements = runtime.run_round(clients)
            record = RoundRecord.of(number, len(clients), measurements["client_work"], model_bytes)
            seconds = time.perf_counter() - start
            records.append(record)
            report(record, seconds)
            on_round(record, seconds)
        weights = runtime.weights()
    if not all(np.isfinite(w).all() for w in weights):
        raise PipelineError(
            "the trained weights are not finite; lower 'train.server_optimizer.learning_rate' in params.yaml"
        )
    return spec, weights, records


@contextmanager
def _reporting(rounds: int) -> Iterator[Callable[[RoundRecord, float], None]]:
    """A progress bar on a terminal, a line a round elsewhere, and a line a round in the log file."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(LOG, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("fedpipe.train")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    bar = tqdm(total=rounds, desc="train", unit="round", disable=not sys.stderr.isatty())
    begin = time.perf_counter()

    def report(record: RoundRecord, seconds: float) -> None:
        line = record.line(rounds, seconds)
        log.info(line)
        bar.set_postfix_str(f"loss {record.loss:.4f}, accuracy {record.accuracy:.4f}", refresh=False)
        bar.update()
        if bar.disable:
            left = (time.perf_counter() - begin) / record.round * (rounds - record.round)
            print(f"{line}, {left:.0f} s left", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        bar.close()
        log.removeHandler(handler)
        handler.close()
