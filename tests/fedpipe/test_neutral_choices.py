"""What changes nothing alone changes nothing together: every algorithm with choices that are neutral.

A choice is neutral if its formula says so: an attack with factor 1, a compressor that sends everything, a norm that no
update reaches. Where the sums are those of the plain training the weights are equal, else they differ by rounding.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fedpipe.config.train import Train
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import Weights
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import TOLERANCE
from tests.fedpipe.training import FEDERATED, run, runs, train_settings

Make = Callable[[list[int]], Path]
SIZES = [8, 8, 8, 8]
COHORTS = [[0, 1, 2, 3], [0, 2, 3]]
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
    "fed_bn": {"model": "keras_cnn", "keras_cnn": {"batch_norm": True}},
    "fed_rep": {"model": "mcmahan_2nn", "fed_rep": {"head_epochs": 2}},
}
NEUTRAL: dict[str, dict[str, Any]] = {
    "an attack with factor 1": {"attack": "scaled_update", "scaled_update": {"factor": 1.0}, "attackers": 0.99},
    "top_k of all entries": {"compressor": "top_k", "top_k": {"share": 1.0}},
    "a norm that no update has": {"aggregator": "clipped_mean", "clipped_mean": {"norm": 1e9}},
    "a factor of 1 for the rates": {
        "client_optimizer": OPTIMIZER | {"schedule": {"name": "step", "factor": 1.0}},
        "server_optimizer": {"schedule": {"name": "step", "factor": 1.0}},
    },
    "batches that are all whole": {"last_batch": "drop"},
    "weights that are all 2": {"client_weighting": "per_client", "client_weights": {"values": [2.0] * len(SIZES)}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "an attack without attackers": {"attack": "gaussian_update", "attackers": 0.0},
    "random_k of all entries": {"compressor": "random_k", "random_k": {"share": 1.0}},
    "a norm that no gradient has": {"client_optimizer": OPTIMIZER | {"clip_norm": 1e9}},
    "a norm above which no update is": {"aggregator": "zeroed_mean", "zeroed_mean": {"norm": 1e9}},
    "weights by equal numbers of samples": {"client_weighting": "examples"},
}
MEANS: dict[str, dict[str, Any]] = {  # that add up in another order
    "a trimmed mean that trims nothing": {"aggregator": "trimmed_mean", "trimmed_mean": {"trim": 0.0}},
    "Multi-Krum that trusts all": {"aggregator": "multi_krum", "multi_krum": {"attackers": 0, "average": 4}},
    "sums of integers of 62 bits": {"aggregator": "secure_sum", "secure_sum": {"bits": 62, "norm": 100.0}},
}
# FedAvg in their first round or two, with these params.
SAME_AS_FED_AVG: list[tuple[str, dict[str, Any], int]] = [
    ("fed_prox", {"mu": 0.0}, 2),
    ("fed_nova", {}, 2),  # clients of one size take the same number of steps
    ("mime_lite", {"beta": 0.0}, 2),
    ("q_fed_avg", {"q": 0.0}, 2),
    ("ditto", {}, 2),
    ("fed_buff", {"exponent": 0.0}, 2),
    ("scaffold", {"option": 1}, 1),
    ("scaffold", {"option": 2}, 1),
    ("afl", {}, 1),
]


# One of each kind for every day: an update alone, with a vector, with a number, in two passes, and several models.
EVERY_DAY = ("fed_avg", "scaffold")
DAILY = [pytest.param(name, marks=[] if name in EVERY_DAY else [pytest.mark.slow]) for name in FEDERATED]


def settings_of(name: str, *changes: dict[str, Any]) -> Train:
    """The settings of an algorithm with those of the changes that are not refused."""
    content = BASE | OWN.get(name, {}) | {"algorithm": name}
    taken: Train = train_settings(**content)
    for change in changes:
        with suppress(ValidationError):
            taken, content = train_settings(**content | change), content | change
    return taken


def trained(worker: Worker, settings: Train, shards: Path, cohorts: Any = COHORTS) -> Weights:
    return run(worker, settings, shards, cohorts).weights


def assert_equal(actual: Weights, expected: Weights, tolerance: float = 0.0) -> None:
    """Equal numbers: a sum with a zero more may have a zero of another sign."""
    for first, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(first, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", DAILY)
def test_neutral_choices_together_change_nothing(worker: Worker, make_shards: Make, name: str) -> None:
    shards, neutral = make_shards(SIZES), settings_of(name, *NEUTRAL.values())
    assert (neutral.attack, neutral.last_batch) == ("scaled_update", "drop")
    assert name not in EVERY_DAY or neutral.client_weighting == "per_client"
    assert_equal(trained(worker, neutral, shards), trained(worker, settings_of(name), shards))


@pytest.mark.slow  # all of them, where the test above has some at once
@pytest.mark.parametrize("name", FEDERATED)
def test_each_neutral_choice_changes_nothing(worker: Worker, make_shards: Make, name: str) -> None:
    shards, plain = make_shards(SIZES), settings_of(name)
    expected = trained(worker, plain, shards)
    for what, change in (NEUTRAL | OTHERS | MEANS).items():
        if (neutral := settings_of(name, change)) != plain:
            actual = trained(worker, neutral, shards)
            assert_equal(actual, expected, TOLERANCE if what in MEANS else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEDERATED)
def test_a_client_without_samples_in_a_cohort_changes_nothing(worker: Worker, make_shards: Make, name: str) -> None:
    shards, settings = make_shards([*SIZES, 0]), settings_of(name)
    with_it, without = runs(worker, settings, shards, [[[*cohort, 4] for cohort in COHORTS], COHORTS])
    assert_equal(with_it.weights, without.weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FEDERATED if name != "fed_sgd"])
def test_half_of_two_epochs_is_one_epoch(worker: Worker, make_shards: Make, name: str) -> None:
    shards, one_epoch = make_shards(SIZES), {"local_epochs": 1, "fed_rep": {"head_epochs": 1}}
    half = [Cohort(WorkRequest.of(cohort, work=500)) for cohort in COHORTS]
    assert_equal(
        trained(worker, settings_of(name), shards, half), trained(worker, settings_of(name, one_epoch), shards)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params", "rounds"), SAME_AS_FED_AVG)
def test_some_params_make_an_algorithm_fed_avg(
    worker: Worker, make_shards: Make, name: str, params: dict[str, Any], rounds: int
) -> None:
    shards, cohorts = make_shards(SIZES), COHORTS[:rounds]
    other = trained(worker, settings_of(name, {name: params}), shards, cohorts)
    assert_equal(other, trained(worker, settings_of("fed_avg"), shards, cohorts), TOLERANCE)
