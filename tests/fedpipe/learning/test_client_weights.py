"""Weights of clients that a user gives: where they are the numbers of examples, or ones, or 0, bits say so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedpipe
from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import Ended, model_of, run, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [23, 9, 0, 4]
EVERYBODY = [[0, 1, 2, 3]] * 2


def weighted(values: list[float], **changes: Any) -> Any:
    per_client = {"client_weighting": "per_client", "client_weights": {"values": values}}
    return train_settings(model="logistic_regression", batch_size=5, **per_client, **changes)


@pytest.mark.parametrize("algorithm", ["fed_avg", pytest.param("scaffold", marks=pytest.mark.slow)])
def test_weights_that_are_those_of_examples_have_their_bits(worker: Worker, make_shards: Make, algorithm: str) -> None:
    shards = make_shards(SIZES)

    def trained(settings: Any, cohorts: list[list[int]] = EVERYBODY) -> Ended:
        return run(worker, settings, shards, cohorts)

    by_examples = train_settings(model="logistic_regression", batch_size=5, algorithm=algorithm)
    assert same_bits(trained(weighted([23, 9, 77, 4], algorithm=algorithm)).state, trained(by_examples).state)


@pytest.mark.slow
def test_a_client_of_weight_0_changes_nothing(worker: Worker, make_shards: Make) -> None:
    beside, alone = runs(worker, weighted([23, 0, 0, 4]), make_shards(SIZES), [EVERYBODY, [[0, 3]] * 2])
    for first, other in zip(beside.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(first, other)


def test_the_sum_of_all_weights_leaves_out_who_cannot_train() -> None:
    settings = weighted([1.5, 2.0, 40.0, 8.0], last_batch="drop")
    assert Task(model_of(settings), settings, 4).total_weight(np.array(SIZES)) == 3.5


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0, 2.0, 3.0], "has 3 numbers, and there are 4 clients"), ([0, 0, 5, 0], "are 0 for all")],
)
def test_weights_of_other_clients_are_refused(
    worker: Worker, make_shards: Make, values: list[float], message: str
) -> None:
    with pytest.raises(PipelineError, match=f"'train.client_weights' {message}"):
        run(worker, weighted(values), make_shards(SIZES), EVERYBODY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregator": "median"}, "median counts all clients alike: set 'train.aggregator' to mean"),
        ({"aggregator": "secure_sum"}, "set 'train.client_weighting' to uniform"),
        ({"aggregator": "dp_gaussian"}, "set 'train.client_weighting' to uniform"),
        ({"algorithm": "q_fed_avg"}, "set 'train.client_weighting' to uniform"),
        (
            {"algorithm": "fed_async", "availability": {"devices": {"seconds_per_sample": 1.0}}},
            "whose weight has no effect: set client_weighting to uniform",
        ),
        ({"client_weighting": "examples"}, "is not read with 'train.client_weighting' examples: empty it"),
        ({"client_weights": {}}, "set either 'train.client_weights.values', a number for each"),
        ({"client_weights": {"values": [0, 0.0]}}, "are all 0.0: give one client or more a weight above 0"),
        ({"client_weights": {"values": [1, -1]}}, "'train.client_weights.values.1' is -1"),
        ({"client_weights": {"values": [1, float("inf")]}}, "'train.client_weights.values.1' is inf"),
        ({"client_weights": {"table": "weights.csv"}}, "the table needs its SHA-256 in 'sha256'"),
    ],
)
def test_choices_that_contradict_weights_are_refused(changes: dict[str, Any], message: str) -> None:
    per_client = {"client_weighting": "per_client", "client_weights": {"values": [1.0, 2.0]}}
    with pytest.raises(PipelineError) as caught:
        fedpipe.train_settings(**per_client | changes)
    assert message in str(caught.value)
