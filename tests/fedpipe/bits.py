"""``python -m tests.fedpipe.bits SHARDS OUTPUT``: a few rounds with every algorithm and aggregator, as digests.

Each runs on a worker of its own process's, with shuffling and dropout; OUTPUT gets the SHA-256 of weights, server state
and kept files by the name of what ran, as JSON.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedpipe.config.train import AGGREGATORS, ALGORITHMS
from fedpipe.datasets.shards import Manifest
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


def digests(worker: Worker, shards: Path) -> dict[str, str]:
    """By ``algorithm with aggregator``: every algorithm with the mean, and FedAvg with every aggregator."""
    clients = Manifest.read(shards).clients
    cohorts = [range(clients), range(0, clients, 2)]
    pairs = [(name, "mean") for name in ALGORITHMS.names]
    pairs += [("fed_avg", name) for name in AGGREGATORS.names if name != "mean"]
    found = {}
    for algorithm, aggregator in pairs:
        sections = {name: {} for name in (algorithm, aggregator)}  # their defaults, if params.yaml has none
        settings = train_settings(**TRAINING | sections, algorithm=algorithm, aggregator=aggregator)
        ended = run(worker, settings, shards, cohorts)
        content = hashlib.sha256()
        for array in (*ended.weights, *ended.state, *(ended.kept[name] for name in sorted(ended.kept))):
            content.update(np.ascontiguousarray(array).tobytes())
        for measured in ended.rounds:
            content.update(repr({name: np.asarray(value).tolist() for name, value in measured.items()}).encode())
        found[f"{algorithm} with {aggregator}"] = content.hexdigest()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Worker(Path(folder) / "worker.log") as running:
        running.wait_until_ready()
        Path(sys.argv[2]).write_text(json.dumps(digests(running, Path(sys.argv[1]))))
        sys.stdout.flush()
        os._exit(0)
