"""FedProx against plain NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("mu", [0.01, 2.0])
def test_is_the_papers(worker: Worker, make_shards: Make, mu: float) -> None:
    settings = train_settings(**TRAINING, algorithm="fed_prox", fed_prox={"mu": mu})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    for cohort in COHORTS:

        def pulled(gradients: Weights, now: Weights, first: Weights = weights) -> Weights:
            return [g + np.float32(mu) * (w - f) for g, w, f in zip(gradients, now, first, strict=True)]

        updates = [reference.sgd(weights, reference.samples_of(shards, k), settings, hook=pulled)[0] for k in cohort]
        weights = reference.moved(weights, reference.mean(updates, [SIZES[k] for k in cohort]))
    reference.assert_close(ended.weights, weights)


def test_without_a_pull_it_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    prox = run(worker, train_settings(**TRAINING, algorithm="fed_prox", fed_prox={"mu": 0.0}), shards, COHORTS)
    assert same_bits(prox.weights, run(worker, train_settings(**TRAINING), shards, COHORTS).weights)
