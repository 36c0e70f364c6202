"""FedDyn: what clients are sent, and attackers (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import TRAINING
from tests.fedpipe.training import run, train_settings

Make = Callable[[list[int]], Path]


def test_clients_are_sent_the_weights_only(worker: Worker, make_shards: Make) -> None:
    ended = run(worker, train_settings(**TRAINING, algorithm="fed_dyn"), make_shards([5]), [[0]])
    assert ended.bytes[0] == 7_850 * 4


def test_an_attacker_reaches_neither_weights_nor_h_through_the_median(worker: Worker, make_shards: Make) -> None:
    """One of five sends its update times 1000, and moves both far away through the mean."""
    changes: Any = TRAINING | {"algorithm": "fed_dyn", "client_weighting": "uniform"}
    attack: Any = {"attack": "scaled_update", "scaled_update": {"factor": 1000.0}, "attackers": 0.2}
    shards, cohorts = make_shards([20] * 5), [[0, 1, 2, 3, 4]] * 2

    def farthest(aggregator: str) -> float:
        states = [
            run(worker, train_settings(**changes, **more, aggregator=aggregator), shards, cohorts).state
            for more in (attack, {})
        ]
        return max(float(np.abs(a - b).max()) for a, b in zip(*states, strict=True))

    assert farthest("median") < 0.5 and farthest("mean") > 10
