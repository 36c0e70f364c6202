"""What changes nothing alone changes nothing together: every algorithm with choices that are neutral.

A choice is neutral if its formula says so: an attack with factor 1, a compressor that sends everything, a norm that no
update reaches. Where the sums are those of the plain training the weights are equal, else they differ by rounding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import Ended, run, train_settings

Make = Callable[[list[int]], Path]
SIZES = [8, 8, 8, 8]
OPTIMIZER = {"learning_rate": 0.1}
BASE: dict[str, Any] = {
    "model": "logistic_regression",
    "batch_size": 4,
    "local_epochs": 2,
    "client_weighting": "uniform",
    "client_optimizer": OPTIMIZER,
    "availability": {"devices": {"seconds_per_sample": 1.0}},  # asynchronous algorithms need it
}
# What an algorithm needs besides.
OWN: dict[str, dict[str, Any]] = {
    "fed_sgd": {"local_epochs": 1},
    "fed_per": {"model": "mcmahan_2nn"},
    "fed_rep": {"model": "mcmahan_2nn", "fed_rep": {"head_epochs": 2}},
}
NEUTRAL: dict[str, dict[str, Any]] = {
    "an attack with factor 1": {"attack": "scaled_update", "scaled_update": {"factor": 1.0}, "attackers": 0.99},
    "top_k of all entries": {"compressor": "top_k", "top_k": {"share": 1.0}},
    "a norm that no update has": {"aggregator": "clipped_mean", "clipped_mean": {"norm": 1e9}},
    "a factor of 1 for the rate": {
        "client_optimizer": OPTIMIZER | {"schedule": {"name": "step", "factor": 1.0}},
        "server_optimizer": {"schedule": {"name": "step", "factor": 1.0}},
    },
    "whole batches only": {"last_batch": "drop"},
}
SINGLE: dict[str, dict[str, Any]] = {
    **NEUTRAL,
    "an attack without attackers": {"attack": "gaussian_update", "attackers": 0.0},
    "random_k of all entries": {"compressor": "random_k", "random_k": {"share": 1.0}},
    "a norm that no gradient has": {"client_optimizer": OPTIMIZER | {"clip_norm": 1e9}},
    "a norm above which no update is": {"aggregator": "zeroed_mean", "zeroed_mean": {"norm": 1e9}},
    "weights by equal numbers of samples": {"client_weighting": "examples"},
    "a trimmed mean that trims nothing": {"aggregator": "trimmed_mean", "trimmed_mean": {"trim": 0.0}},
    "Multi-Krum that trusts all": {"aggregator": "multi_krum", "multi_krum": {"attackers": 0, "average": 4}},
    "sums of integers of 62 bits": {"aggregator": "secure_sum", "secure_sum": {"bits": 62, "norm": 100.0}},
}


def settings_of(name: str, *changes: dict[str, Any]) -> Train:
    """The settings of an algorithm with as many of the changes as are not refused."""
    content = BASE | OWN.get(name, {}) | {"algorithm": name}
    taken: Train = train_settings(**content)
    for change in changes:
        try:
            taken = train_settings(**content | change)
        except ValidationError:
            continue
        content = content | change
    return taken


def assert_same(one: Ended, other: Ended, tolerance: float = 0.0) -> None:
    """The same weights, state of the server and files of clients."""
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ALGORITHMS.names)
def test_neutral_choices_together_change_nothing(worker: Worker, make_shards: Make, name: str) -> None:
    shards, cohorts = make_shards(SIZES), [range(4), [0, 2, 3]]
    plain = run(worker, settings_of(name), shards, cohorts)
    assert_same(plain, run(worker, settings_of(name, *NEUTRAL.values()), shards, cohorts))
