"""Ditto against plain NumPy: the global model, and the personal ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("lam", [0.0, 1.5])
def test_is_the_papers(worker: Worker, make_shards: Make, lam: float) -> None:
    settings = train_settings(**TRAINING, algorithm="ditto", ditto={"lam": lam})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    own: dict[int, Weights] = {}
    for cohort in COHORTS:
        updates = []
        for client in cohort:
            samples = reference.samples_of(shards, client)

            def pull(gradients: Weights, now: Weights, there: Weights = weights) -> Weights:
                return [g + np.float32(lam) * (v - w) for g, v, w in zip(gradients, now, there, strict=True)]

            before = own.get(client, weights)
            own[client] = reference.moved(before, reference.sgd(before, samples, settings, hook=pull)[0])
            updates.append(reference.sgd(weights, samples, settings)[0])
        weights = reference.moved(weights, reference.mean(updates, [SIZES[k] for k in cohort]))
    reference.assert_close(ended.weights, weights)
    assert set(ended.kept) == {"0.3", "1.2", "2.3", "3.3", "4.2"}  # the last file of each client
    for name, found in ended.kept.items():
        expected = np.concatenate([[1.0], *(part.ravel() for part in own[int(name.split(".")[0])])])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_global_model_is_fed_avgs(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    ditto = run(worker, train_settings(**TRAINING, algorithm="ditto"), shards, COHORTS)
    average = run(worker, train_settings(**TRAINING), shards, COHORTS)
    assert same_bits(ditto.weights, average.weights) and ditto.bytes == average.bytes
