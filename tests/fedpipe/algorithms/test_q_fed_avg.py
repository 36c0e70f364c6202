"""q-FedAvg: special cases and refusals (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]


UNIFORM = TRAINING | {"client_weighting": "uniform"}


def test_a_client_without_any_loss_takes_part(worker: Worker, make_shards: Make) -> None:
    """Its loss to a negative power would be infinite, and so not a number with the update of 0."""
    settings = train_settings(**UNIFORM, algorithm="q_fed_avg", q_fed_avg={"q": 0.5}, loss="hinge")
    shards = make_shards([1])
    first = [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]
    first[1][reference.samples_of(shards, 0).y] = 5.0
    ended = run(worker, settings, shards, [[0]], first=first)
    assert (int(ended.rounds[0]["clients"]), int(ended.rounds[0]["non_finite"])) == (1, 0)
    assert float(ended.rounds[0]["loss"]) == 0 and same_bits(ended.weights, first)


def test_without_fairness_it_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    fair = run(worker, train_settings(**UNIFORM, algorithm="q_fed_avg", q_fed_avg={"q": 0.0}), shards, COHORTS)
    reference.assert_close(fair.weights, run(worker, train_settings(**UNIFORM), shards, COHORTS).weights)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"client_weighting": "examples"}, "'train.client_weighting' to uniform"),
        ({"client_weighting": "uniform", "client_optimizer": {"name": "adam"}}, "'train.client_optimizer.name' to sgd"),
    ],
)
def test_what_does_not_go_with_it_is_refused(change: dict, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"'train.algorithm' q_fed_avg .*: set {remedy}"):
        train_settings(algorithm="q_fed_avg", **change)
