"""Agnostic federated learning against plain NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


UNIFORM = TRAINING | {"client_weighting": "uniform"}


def projected(values: np.ndarray) -> np.ndarray:
    """The point of the simplex next to ``values``, by bisection for the shift that makes the sum 1."""
    low, high = values.min() - 1, values.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(values - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(values - low, 0)


@pytest.mark.parametrize("rate", [0.02, 0.1])  # the large one sends weights of clients to 0
def test_is_the_papers(worker: Worker, make_shards: Make, rate: float) -> None:
    settings = train_settings(**UNIFORM, algorithm="afl", afl={"rate": rate})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    shares = np.full(len(SIZES), 1 / len(SIZES))
    for cohort in COHORTS:
        everyone = [(k, reference.samples_of(shards, k)) for k in cohort]
        losses = np.zeros(len(SIZES))
        for client, samples in everyone:
            losses[client] = reference.losses_and_gradient(weights, samples)[0].mean() if len(samples.y) else 0.0
        updates = [reference.sgd(weights, samples, settings)[0] for _, samples in everyone]
        masses = [shares[client] * (len(samples.y) > 0) for client, samples in everyone]
        weights = reference.moved(weights, reference.mean(updates, masses))
        shares = projected(shares + rate * losses)
    reference.assert_close(ended.weights, weights)
    found = next(leaf for leaf in ended.state if leaf.shape == (len(SIZES),))
    np.testing.assert_allclose(found, shares, atol=1e-6)
    if rate == 0.1:
        assert (found == 0).any()


def test_another_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train.algorithm' afl weighs .*: set 'train.client_weighting' to uniform"):
        train_settings(algorithm="afl")


@pytest.mark.parametrize("algorithm", ["afl", "q_fed_avg"])
@pytest.mark.parametrize("aggregator", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_aggregators_that_count_all_alike_are_refused(algorithm: str, aggregator: str) -> None:
    with pytest.raises(ValueError, match=f"{algorithm} lets clients count by weights of its own, and .* {aggregator} "):
        train_settings(algorithm=algorithm, aggregator=aggregator, client_weighting="uniform")
    train_settings(algorithm=algorithm, aggregator="geometric_median", client_weighting="uniform")
