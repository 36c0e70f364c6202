"""``python -m tests.fedpipe.resuming SHARDS OUTPUT``: every method killed in a round, and what it comes to afterwards.

Each training runs undisturbed first. Then a process begins it, is killed with ``kill -9`` in a round, and another
process resumes from the checkpoint, and begins the next one. All of them are forks of this process, which has loaded
the libraries and computed nothing. OUTPUT gets, as JSON and by the name of what ran, the SHA-256 of all that the
training left in both ways, the round that was under way, and the round of the checkpoint.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.cohort import COHORTS
from fedpipe.networks.network import Weights
from fedpipe.runtime import checkpoints as checkpoints_module
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.rounds import CompletedRound
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from tests.fedpipe import bits
from tests.fedpipe.training import train, train_settings

ROUNDS, BEFORE = 8, 3  # of each training, and those that are whole before it is killed
# Of the 13 clients, as many as Bulyan needs in a round; and a server that remembers.
PART = {"clients_per_round": 7, "server_optimizer": {"name": "fed_yogi", "learning_rate": 0.01}}
_NO_SERVER = {"server_optimizer": {}}
OF_ALGORITHMS: dict[str, dict[str, Any]] = {
    "centralised": _NO_SERVER | {"client_rounds": False},
    "local_only": _NO_SERVER | {"keep_best": False},
    "ifca": {"server_optimizer": {"learning_rate": 0.5}},
    "fed_async": {"clients_per_round": "all"},  # these two draw no cohorts
    "fed_buff": {"clients_per_round": "all"},
}
OF_COHORTS: dict[str, dict[str, Any]] = {
    "poisson": {"clients_per_round": "all", "poisson": {"probability": 0.5}},
    "fixed": {"clients_per_round": "all", "fixed": {"ids": [1, 2, 5, 9, 11]}},
    "power_of_choice": {"power_of_choice": {"candidates": 9}},
}


def wanted() -> dict[str, Train]:
    """What is trained, by name: all of tests/fedpipe/bits.py on some of the clients, and every cohort."""
    by_name = bits.wanted() | {
        f"cohort {name}": {"cohort": name, name: {}, **OF_COHORTS.get(name, {})} for name in COHORTS.names
    }
    settings = {}
    for name, changes in by_name.items():
        algorithm = changes.get("algorithm", "fed_avg")
        others = {"rounds": ROUNDS, "evaluate_every": 3, "keep_best": True, "checkpoint": {"seconds": 0.0}}
        others["selection"] = "test"
        aggregator = AGGREGATORS.of(changes.get("aggregator", "mean"))
        others["client_rounds"] = not (aggregator.is_private or aggregator.SUMS_INTEGERS)
        parts = (bits.TRAINING, PART, others, OF_ALGORITHMS.get(algorithm, {}), {algorithm: {}}, changes)
        settings[name] = train_settings(**{key: value for part in parts for key, value in part.items()})
    return settings


class Killing:
    """Tells the parent, in a round, that it is time, and waits for the end before the last one."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def __call__(self, completed: CompletedRound) -> None:
        """After a round."""
        if completed.record.round == BEFORE:
            os.write(self._pipe, b"!")
        if completed.record.round == ROUNDS - 1:
            time.sleep(60)


def trained(settings: Train, shards: Path, worker: Worker, folder: Path, on_round: Any = None) -> dict[str, Any]:
    """Trains, from a checkpoint in ``folder`` if there is one."""

    def evaluate(weights: Weights) -> dict[str, float]:
        measured = float(sum(abs(w).sum() for w in weights))
        return {"test_loss": measured, "test_accuracy": measured % 1}

    with Checkpoints(folder, {"params": {}}, settings) as checkpoints:
        ended = train(settings, shards, worker, folder, on_round=on_round, evaluate=evaluate, checkpoints=checkpoints)
        after = 0 if checkpoints.resumed is None else checkpoints.resumed.round
        return {"digest": digest(ended, folder), "checkpoint": after}


def digest(ended: Trained, folder: Path) -> str:
    """Of all that a training leaves."""
    content = hashlib.sha256()
    for array in (*ended.weights, *ended.best, np.concatenate(ended.client_rows or [np.zeros((0, 1))])):
        content.update(array.tobytes())
    content.update(repr([[asdict(record) for record in ended.records], ended.best_round, ended.privacy]).encode())
    if ended.personal is not None:
        ended.personal.write(folder / "personal.safetensors")
        content.update((folder / "personal.safetensors").read_bytes())
    return content.hexdigest()


def forked(work: Callable[[], None]) -> int:
    """The id of a process that does ``work`` and ends."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        checkpoints_module._SHARE = 1.0  # rounds are short, and most are to be saved
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def main(shards: Path, output: Path, folder: Path) -> None:
    """Trains everything in both ways."""
    settings = wanted()
    names, results = list(settings), {name: {} for name in settings}
    moments = random.Random(2024)

    def undisturbed() -> None:
        with Worker(folder / "worker.log") as worker:
            worker.wait_until_ready()
            whole = {name: trained(settings[name], shards, worker, folder / "whole" / name)["digest"] for name in names}
        (folder / "whole.json").write_text(json.dumps(whole))

    def link(before: str | None, name: str | None, pipe: int) -> None:
        """Goes on with the training ``before``, and begins ``name``."""
        with Worker(folder / "worker.log") as worker:
            worker.wait_until_ready()
            if before is not None:
                result = trained(settings[before], shards, worker, folder / "killed" / before)
                (folder / f"{before}.json").write_text(json.dumps(result))
            if name is not None:
                trained(settings[name], shards, worker, folder / "killed" / name, Killing(pipe))

    assert os.waitpid(forked(undisturbed), 0)[1] == 0
    for before, name in zip([None, *names], [*names, None], strict=True):
        read, write = os.pipe()
        child = forked(lambda before=before, name=name, write=write: link(before, name, write))
        os.close(write)
        if os.read(read, 1):
            time.sleep(moments.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(read)
        assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0) == (0 if name is None else signal.SIGKILL)
        if name is not None:
            log = (folder / "killed" / name / "rounds.log").read_text()
            results[name]["killed_in"] = len(log.splitlines()) + 1
    whole = json.loads((folder / "whole.json").read_text())
    for name in names:
        results[name] |= json.loads((folder / f"{name}.json").read_text()) | {"whole": whole[name]}
    output.write_text(json.dumps(results))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(temporary))
