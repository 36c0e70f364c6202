"""q-FedAvg: special cases and refusals (test_papers.py compares it with its paper)."""

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


@pytest.mark.parametrize(("q", "momentum"), [(0.5, 0.0), (2.0, 0.0), (2.0, 0.9)])
def test_clients_count_by_losses_and_by_lengths_of_updates(
    worker: Worker, make_shards: Make, q: float, momentum: float
) -> None:
    """With momentum, a gradient moves the weights by rate / (1 - momentum) in all."""
    optimizer = {"learning_rate": 0.1, "momentum": momentum}
    settings = train_settings(**UNIFORM | {"client_optimizer": optimizer}, algorithm="q_fed_avg", q_fed_avg={"q": q})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    smoothness = (1 - momentum) / 0.1
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


def test_a_rate_of_zero_moves_nothing(worker: Worker, make_shards: Make) -> None:
    """1 / rate would be infinite."""
    optimizer = {"learning_rate": 0.1, "schedule": {"name": "cosine", "rounds": 1}}
    settings = train_settings(**UNIFORM | {"client_optimizer": optimizer}, algorithm="q_fed_avg", rounds=2)
    ended = run(worker, settings, make_shards(SIZES), COHORTS[:2])
    assert int(ended.rounds[1]["non_finite"]) == 0
    assert same_bits(ended.weights, ended.weights_by_round[0]) and not same_bits(ended.weights, first_weights(settings))


def test_a_client_whose_loss_to_the_power_of_q_is_no_float32_takes_part(worker: Worker, make_shards: Make) -> None:
    settings = train_settings(**UNIFORM, algorithm="q_fed_avg", q_fed_avg={"q": 5.0})
    shards = make_shards([1, 20])
    first = [np.zeros((784, 10), np.float32), np.zeros(10, np.float32)]
    first[1][reference.samples_of(shards, 0).y] = 25.0  # which counts as 1e-10
    ended = run(worker, settings, shards, [[0, 1]], first=first)
    assert (int(ended.rounds[0]["clients"]), int(ended.rounds[0]["non_finite"])) == (2, 0)


def test_without_fairness_it_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    fair = run(worker, train_settings(**UNIFORM, algorithm="q_fed_avg", q_fed_avg={"q": 0.0}), shards, COHORTS)
    assert same_bits(fair.weights, run(worker, train_settings(**UNIFORM), shards, COHORTS).weights)


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
