"""``python -m tests.fedpipe.bits SHARDS OUTPUT [ONLY [EMULATOR...]]``: rounds of algorithms, as digests.

Every algorithm, aggregator, attack and compressor runs, or the pairs ONLY (with commas between them), on a worker that
this process starts.
OUTPUT gets the SHA-256 of weights, server state, kept files and measurements by the name of what ran, as JSON.
EMULATOR is a command that runs the worker, such as ``qemu-x86_64 -cpu Haswell``; this process runs as it was started.
"""

import hashlib
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS, asynchrony_of
from fedpipe.contracts.attack import ATTACKS
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.enclosure.enclosure import Enclosure
from fedpipe.runtime import worker as worker_module
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import run, train_settings

BASELINE = "fed_avg with mean"
TRAINING = {
    "model": "logistic_regression",
    "batch_size": 4,
    "local_epochs": 2,
    "shuffle": True,
    "client_optimizer": {"learning_rate": 0.1},
}
# The model with dropout, for the baseline. The graphs of the others are built in less time with a smaller one.
DROPOUT = {"model": "mcmahan_cnn", "mcmahan_cnn": {"dropout": 0.5}}
LAYERS = {"model": "mcmahan_2nn"}
DEVICES = {"devices": {"seconds_per_sample": 1.0, "spread": 1.0}}
# What an algorithm needs beside.
NEEDED = {
    "fed_sgd": {"local_epochs": 1, "shuffle": False},
    "q_fed_avg": {"client_weighting": "uniform"},
    "afl": {"client_weighting": "uniform"},
    "fed_per": LAYERS,
    "fed_rep": LAYERS,
    "fed_bn": {"model": "keras_cnn", "keras_cnn": {"batch_norm": True}},
    "fed_buff": {"availability": DEVICES, "fed_buff": {"buffer_size": 3}},
    "fed_async": {"availability": DEVICES, "fed_async": {"staleness": "polynomial"}},
}
ATTACKERS = {"attackers": 0.3}
# Between the norms of the clients' updates, which are from 0.3 to 0.6.
PARAMS = {"clipped_mean": {"norm": 0.45}, "zeroed_mean": {"norm": 0.45}}


def wanted() -> dict[str, dict[str, Any]]:
    """Changes of section train by name: every algorithm with the mean, FedAvg with every other choice."""
    changes = {f"{name} with mean": {"algorithm": name} | NEEDED.get(name, {}) for name in ALGORITHMS.names}
    changes[BASELINE] |= DROPOUT
    for name in AGGREGATORS.names:
        changes.setdefault(
            f"fed_avg with {name}",
            {"aggregator": name, "client_weighting": weighting(name), name: PARAMS.get(name, {})},
        )
    for name in ATTACKS.names:
        if name != "no_attack":
            changes[f"fed_avg with {name}"] = {"attack": name, **ATTACKERS}
    for name in COMPRESSORS.names:
        if name != "no_compression":
            changes[f"fed_avg with {name}"] = {"compressor": name}
    return changes


def digests(worker: Worker, shards: Path, only: str = "") -> dict[str, str]:
    """By the names of `wanted`."""
    by_name = {}
    for name, changes in wanted().items():
        if only and name not in only.split(","):
            continue
        # Params are the defaults, if params.yaml has none.
        algorithm = changes.get("algorithm", "fed_avg")
        settings = train_settings(**TRAINING | {algorithm: {}} | changes)
        ended = run(worker, settings, shards, cohorts_of(settings, shards))
        content = hashlib.sha256()
        for array in (*ended.weights, *ended.state, *(ended.kept[file] for file in sorted(ended.kept))):
            content.update(np.ascontiguousarray(array).tobytes())
        for measured in ended.rounds:
            content.update(repr({key: np.asarray(value).tolist() for key, value in measured.items()}).encode())
        by_name[name] = content.hexdigest()
    return by_name


def cohorts_of(settings: Train, shards: Path) -> list[Any]:
    """All clients and half of them; if updates arrive at different times, those of five versions."""
    if asynchrony_of(settings) is None:
        clients = Manifest.read(shards).clients
        return [range(clients), range(0, clients, 2)]
    events = Schedule(settings, asynchrony_of(settings), np.diff(Shards.open(shards).offsets))
    return [events.cohort(number) for number in range(1, 6)]


def weighting(aggregator: str) -> str:
    """Weights of clients that an aggregator takes: equal ones if it is choosy."""
    return "uniform" if AGGREGATORS.of(aggregator).defines("check") else "examples"


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
