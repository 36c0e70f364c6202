"""``python -m tests.fedpipe.bits SHARDS OUTPUT [ONLY [EMULATOR...]]``: rounds of algorithms, as digests.

Every algorithm and aggregator runs, or the pair ONLY, on a worker that this process starts, with shuffling and dropout.
OUTPUT gets the SHA-256 of weights, server state, kept files and measurements by the name of what ran, as JSON.
EMULATOR is a command that runs the worker, such as ``qemu-x86_64 -cpu Haswell``; this process runs as it was started.
"""

import hashlib
import json
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedpipe.config.train import AGGREGATORS, ALGORITHMS
from fedpipe.datasets.shards import Manifest
from fedpipe.enclosure.enclosure import Enclosure
from fedpipe.runtime import worker as worker_module
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import run, train_settings

# mcmahan_cnn is the model with dropout.
TRAINING = {
    "model": "mcmahan_cnn",
    "mcmahan_cnn": {"dropout": 0.5},
    "batch_size": 4,
    "local_epochs": 2,
    "shuffle": True,
    "client_optimizer": {"learning_rate": 0.1},
}
# What an algorithm needs beside.
NEEDED = {
    "fed_sgd": {"local_epochs": 1},
    "q_fed_avg": {"client_weighting": "uniform"},
    "afl": {"client_weighting": "uniform"},
}


def digests(worker: Worker, shards: Path, only: str = "") -> dict[str, str]:
    """By ``algorithm with aggregator``: every algorithm with the mean, and FedAvg with every aggregator."""
    clients = Manifest.read(shards).clients
    cohorts = [range(clients), range(0, clients, 2)]
    pairs = [(name, "mean") for name in ALGORITHMS.names]
    pairs += [("fed_avg", name) for name in AGGREGATORS.names if name != "mean"]
    found = {}
    for algorithm, aggregator in pairs:
        if only not in ("", f"{algorithm} with {aggregator}"):
            continue
        sections = {name: {} for name in (algorithm, aggregator)}  # their defaults, if params.yaml has none
        needed = {"client_weighting": weighting(aggregator)} | NEEDED.get(algorithm, {})
        settings = train_settings(**TRAINING | sections | needed, algorithm=algorithm, aggregator=aggregator)
        ended = run(worker, settings, shards, cohorts)
        content = hashlib.sha256()
        for array in (*ended.weights, *ended.state, *(ended.kept[name] for name in sorted(ended.kept))):
            content.update(np.ascontiguousarray(array).tobytes())
        for measured in ended.rounds:
            content.update(repr({name: np.asarray(value).tolist() for name, value in measured.items()}).encode())
        found[f"{algorithm} with {aggregator}"] = content.hexdigest()
    return found


def weighting(aggregator: str) -> str:
    """Weights of clients that an aggregator takes: equal ones if it is choosy."""
    return "uniform" if hasattr(AGGREGATORS.module(aggregator), "check") else "examples"


def emulated(folder: Path, command: list[str]) -> None:
    """Has workers of this process run below ``command``, which may take long to answer."""
    script = folder / "emulated_worker"
    script.write_text(f'#!/bin/sh\nexec {shlex.join([*command, str(worker_module._binary())])} "$@"\n')
    script.chmod(0o755)
    worker_module._binary = lambda: script
    worker_module._START_SECONDS = 300
    is_ready = Enclosure.is_ready
    Enclosure.is_ready = lambda self, seconds: is_ready(self, 10.0)  # type: ignore[method-assign]


if __name__ == "__main__":
    shards, output, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        if rest[1:]:
            emulated(Path(name), rest[1:])
        with Worker(Path(name) / "worker.log") as running:
            running.wait_until_ready()
            Path(output).write_text(json.dumps(digests(running, Path(shards), *rest[:1])))
