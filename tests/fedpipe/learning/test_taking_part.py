"""A client that takes no local step takes no part: with whatever algorithm and aggregator, it leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.learning.task import Task
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import weighting
from tests.fedpipe.training import FEDERATED, Ended, model_of, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [23, 9, 0, 3, 31]  # batches have ten samples
TRAINING = {
    "model": "logistic_regression",
    "batch_size": 10,
    "last_batch": "drop",
    "server_optimizer": {"learning_rate": 0.5, "momentum": 0.9},  # goes on by itself if the server takes a step
}
PLAIN = {"server_optimizer": {"learning_rate": 0.5}}
NEEDED: dict[str, dict[str, Any]] = {
    "fed_sgd": {"local_epochs": 1, "last_batch": "keep"},
    "q_fed_avg": {"client_weighting": "uniform"},
    "afl": {"client_weighting": "uniform"},
    "ifca": PLAIN | {"ifca": {"clusters": 3}},
    "fed_per": {"model": "mcmahan_2nn"},
    "fed_bn": {"model": "keras_cnn", "keras_cnn": {"batch_norm": True}},
    "fed_rep": {"model": "mcmahan_2nn"},
}
SYNCHRONOUS = [name for name in FEDERATED if not ALGORITHMS.of(name).is_asynchronous]
WITHOUT_NOISE = [name for name, aggregator in AGGREGATORS.all() if not aggregator.is_private]


def settings_of(algorithm: str, **changes: Any) -> Train:
    return train_settings(**TRAINING | {"algorithm": algorithm, algorithm: {}} | NEEDED.get(algorithm, {}) | changes)


def same(first: Ended, other: Ended) -> bool:
    own = [{name: kept for name, kept in each.kept.items() if name[0] in "04"} for each in (first, other)]
    return same_bits(first.state, other.state) and all(same_bits([own[0][name]], [own[1][name]]) for name in own[0])


EVERY_DAY = ("fed_avg", "ifca", "mime", "scaffold")
DAILY = [pytest.param(name, marks=[] if name in EVERY_DAY else [pytest.mark.slow]) for name in SYNCHRONOUS]


@pytest.mark.parametrize("algorithm", DAILY)
def test_clients_without_a_step_change_nothing(worker: Worker, make_shards: Make, algorithm: str) -> None:
    """Clients 1 and 3 have less than a batch, client 2 has no sample; beside them, 0 and 4 train as if alone."""
    settings, shards = settings_of(algorithm), make_shards(SIZES)
    without_steps = [2] if settings.last_batch == "keep" else [1, 2, 3]
    with_others = [[0, *without_steps, 4], [0, *without_steps], [*without_steps, 4]]
    alone, beside = runs(worker, settings, shards, [[[0, 4], [0], [4]], with_others])
    assert same(alone, beside)
    assert [int(measured["clients"]) for measured in beside.rounds] == [2, 1, 1]
    assert [int(measured["examples"]) for measured in beside.rounds] == [54, 23, 31]
    assert [int(measured["silent"]) for measured in beside.rounds] == [len(without_steps)] * 3
    assert not any(kept.any() for name, kept in beside.kept.items() if int(name[0]) in without_steps)


# The state stays by one mechanism; every day it is tried with states of each kind.
@pytest.mark.parametrize("algorithm", DAILY)
def test_a_round_in_which_nobody_takes_a_step_changes_the_rounds_number_only(
    worker: Worker, make_shards: Make, algorithm: str
) -> None:
    """All clients of the cohort, or there are none; before the first step of a training, and after it."""
    settings, shards = settings_of(algorithm), make_shards(SIZES)
    nobody = [2] if settings.last_batch == "keep" else [1, 2, 3]
    firsts = [[0, 4]], [nobody]
    trained = runs(worker, settings, shards, [first + then for first in firsts for then in ([], [nobody], [[]])])
    for before, *others in (trained[:3], trained[3:]):
        for after in others:
            assert same_bits(before.weights, after.weights)
            *state, number = before.state
            assert same_bits(state, after.state[:-1]) and after.state[-1] == number + 1


@pytest.mark.parametrize("aggregator", AGGREGATORS.names)
def test_aggregators_get_no_update_of_a_client_without_a_step(
    worker: Worker, make_shards: Make, aggregator: str
) -> None:
    """One client of five trains: the server takes its whole step, and no zeros of the others.

    Of those with noise, the two that add it at the server divide by a constant, so there is no difference either. With
    `local_dp`, each client must send noise, or it would stand out.
    """
    section = {"noise_multiplier": 1e-9} if aggregator not in WITHOUT_NOISE else {}
    settings = settings_of(
        "fed_avg", aggregator=aggregator, client_weighting=weighting(aggregator), **{aggregator: section}
    )
    cohorts = [[0]], [[0, 1, 2, 3, 4]], [[2]]
    alone, beside, other = runs(worker, settings, make_shards([23, 9, 0, 3, 9]), cohorts)
    assert int(beside.rounds[0]["clients"]) == 1
    if aggregator == "local_dp":
        first = other.weights
        steps = [[w - f for w, f in zip(each.weights, first, strict=True)] for each in (alone, beside)]
        for whole, part in zip(*steps, strict=True):
            np.testing.assert_allclose(part, whole / 5, atol=1e-6)
    else:
        assert same_bits(alone.weights, beside.weights)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"last_batch": "keep", "client_weighting": "examples"}, 66.0),
        ({"last_batch": "keep", "client_weighting": "uniform"}, 4.0),
        ({"last_batch": "drop", "client_weighting": "examples"}, 54.0),
        ({"last_batch": "drop", "client_weighting": "uniform"}, 2.0),
    ],
)
def test_the_weight_of_all_clients_is_that_of_those_that_can_take_a_step(
    changes: dict[str, str], expected: float
) -> None:
    settings = train_settings(model="logistic_regression", batch_size=10, **changes)
    assert Task(model_of(settings), settings, len(SIZES)).total_weight(np.array(SIZES)) == expected
