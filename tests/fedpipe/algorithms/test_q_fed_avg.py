"""q-FedAvg against plain NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]


UNIFORM = TRAINING | {"client_weighting": "uniform"}


@pytest.mark.parametrize("q", [0.5, 2.0])
def test_is_the_papers(worker: Worker, make_shards: Make, q: float) -> None:
    settings = train_settings(**UNIFORM, algorithm="q_fed_avg", q_fed_avg={"q": q})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    smoothness = 1 / 0.1
    for cohort in COHORTS:
        deltas, masses = [], []
        for client in [k for k in cohort if SIZES[k]]:
            samples = reference.samples_of(shards, client)
            loss = float(reference.losses_and_gradient(weights, samples)[0].mean())
            step = [smoothness * u for u in reference.sgd(weights, samples, settings)[0]]
            deltas.append([loss**q * part for part in step])
            length = sum(float(np.square(part).sum()) for part in step)
            masses.append(q * loss ** (q - 1) * length + smoothness * loss**q)
        summed = [sum(parts) / np.float32(sum(masses)) for parts in zip(*deltas, strict=True)]
        weights = reference.moved(weights, summed)
    reference.assert_close(ended.weights, [w.astype(np.float32) for w in weights])


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
