"""DP-FTRL's noisy prefix sums and what they cost, against matrices written from the definition of the tree."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.aggregators import dp_ftrl
from fedpipe.learning.task import Task
from fedpipe.privacy.mechanism import LocalGaussian, Tree
from tests.fedpipe.training import model_of, train_settings

DELTA = 1e-5


def estimator(rounds: int) -> np.ndarray:
    """What each prefix sum has of the noise of each node: [rounds, nodes] (Honaker 2015, estimation from below).

    A node's estimate is the mean of its own noisy sum and that of its children's estimates, weighted by the inverses of
    their variances; a prefix sum is the sum of the estimates of the largest nodes that it is made of.
    """
    levels = range(rounds.bit_length())
    order = [(level, index) for level in levels for index in range(rounds >> level)]
    own = dict(zip(order, np.eye(len(order)), strict=True))

    def estimate(level: int, index: int) -> tuple[np.ndarray, float]:
        if not level:
            return own[level, index], 1.0
        (left, first), (right, other) = (estimate(level - 1, 2 * index + side) for side in (0, 1))
        share = 1 / (1 + 1 / (first + other))  # the inverse of 1, the own variance, over the sum of both inverses
        return share * own[level, index] + (1 - share) * (left + right), share

    released, begin = [], 0
    for last in range(1, rounds + 1):
        begin, parts = 0, []
        for level in reversed(levels):
            if last >> level & 1:
                parts.append(estimate(level, begin >> level)[0])
                begin += 1 << level
        released.append(np.sum(parts, axis=0))
    return np.array(released)


def covariance(rounds: int, restart_every: int = 0) -> np.ndarray:
    """Of the released noise, for noise of variance 1 on each node; after a restart, the noise of the last sum stays."""
    actual = np.zeros((rounds, rounds))
    for begin in range(0, rounds, restart_every or rounds):
        rows = estimator(min(restart_every or rounds, rounds - begin))
        later = np.repeat(rows[-1:], rounds - begin - len(rows), axis=0)
        of_tree = np.concatenate([rows, later])
        actual[begin:, begin:] += of_tree @ of_tree.T
    return actual


def drawn(monkeypatch: pytest.MonkeyPatch, rounds: int, restart_every: int) -> np.ndarray:
    """How much of the draw of each round is in the noise of each prefix sum: [rounds, rounds], from the aggregator."""

    def add(parts: list[Any], deviation: Any, seed: Any) -> list[Any]:
        return [parts[0] + deviation * tf.one_hot(seed - 1, rounds)]

    monkeypatch.setattr(dp_ftrl, "add_gaussian", add)
    monkeypatch.setattr(Task, "noise_seed", lambda self, round_number, index=0: round_number)
    own = {"norm": 1.0, "noise_multiplier": 1.0, "restart_every": restart_every}
    settings = train_settings(aggregator="dp_ftrl", dp_ftrl=own, client_weighting="uniform")
    task = Task(model_of(settings), settings, 1)
    finish = tf.function(lambda number: dp_ftrl.finish(task, (), [tf.zeros([rounds])], tf.constant(0.0), number)[0][0])
    return np.cumsum([finish(tf.constant(number)).numpy() for number in range(1, rounds + 1)], axis=0)


@pytest.mark.parametrize("restart_every", [0, 6, 8])
def test_noise_of_prefix_sums_is_that_of_honakers_estimates(
    monkeypatch: pytest.MonkeyPatch, restart_every: int
) -> None:
    actual = drawn(monkeypatch, 27, restart_every)
    np.testing.assert_allclose(actual @ actual.T, covariance(27, restart_every), atol=1e-5)


@pytest.mark.parametrize(("rounds", "estimated", "plain"), [(100, 1.99, 3.19), (1000, 2.87, 4.94)])
def test_mean_variance_is_that_of_the_paper(
    monkeypatch: pytest.MonkeyPatch, rounds: int, estimated: float, plain: float
) -> None:
    variances = np.square(drawn(monkeypatch, rounds, 0)).sum(axis=1)
    assert variances.mean() == pytest.approx(estimated, abs=0.005)
    assert np.mean([number.bit_count() for number in range(1, rounds + 1)]) == pytest.approx(plain, abs=0.005)


def test_variance_is_that_of_tffs_efficient_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow_privacy.privacy.dp_query import tree_aggregation

    tree = tree_aggregation.EfficientTreeAggregator(
        tree_aggregation.GaussianNoiseGenerator(1.0, tf.TensorSpec([40_000]), seed=5)
    )
    state, released = tree.init_state(), []
    for _ in range(12):
        noise, state = tree.get_cumsum_and_update(state)
        released.append(noise.numpy().std())
    actual = np.sqrt(np.square(drawn(monkeypatch, 12, 0)).sum(axis=1))
    np.testing.assert_allclose(actual, released, rtol=0.02)  # their deviations are of 40,000 draws


def squared_sensitivity(rounds: int, restart_every: int, took_part: np.ndarray) -> float:
    """Of the Gaussian mechanism of all released sums, in units of its noise: x' A' (covariance)^-1 A x."""
    sums = np.tril(np.ones((rounds, rounds)))
    costs = sums.T @ np.linalg.solve(covariance(rounds, restart_every), sums)
    assert costs.min() > -1e-9  # so that updates that point the same way cost most
    return float(took_part @ costs @ took_part)


@pytest.mark.parametrize("restart_every", [0, 4, 6])
def test_a_tree_costs_what_its_released_sums_tell(restart_every: int) -> None:
    rng = np.random.default_rng(4)
    for rounds in (1, 2, 7, 8, 13, 24):
        took_part = rng.random((rounds, 6)) < (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
        tree = Tree(2.0, restart_every, 6)
        expected = max(squared_sensitivity(rounds, restart_every, each.astype(float)) for each in took_part.T)
        squared = tree.squared_sensitivity(rounds, lambda number, who=took_part: np.flatnonzero(who[number - 1]))
        assert squared == pytest.approx(expected)
        as_one = LocalGaussian(2 * 2.0 / math.sqrt(squared))
        assert tree.epsilon(rounds, DELTA, no_cohort) == as_one.epsilon(1, DELTA, no_cohort)


def no_cohort(round_number: int) -> np.ndarray:
    raise AssertionError(f"the cohort of round {round_number} was drawn before")


def test_a_tree_costs_less_than_all_of_its_nodes() -> None:
    """A client in one round of eight is in a node of each of four levels, and the sums show less than those."""
    in_turn = Tree(1.0, 0, 8).squared_sensitivity(8, lambda number: np.array([number - 1]))
    assert in_turn == pytest.approx(max(squared_sensitivity(8, 0, each) for each in np.eye(8))) and in_turn < 4


def test_who_was_in_no_round_costs_nothing() -> None:
    assert Tree(2.0, 0, 6).tight_epsilon(1, DELTA, lambda number: np.array([], int)) == 0
