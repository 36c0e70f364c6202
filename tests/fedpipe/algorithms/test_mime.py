"""Mime and MimeLite against plain NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]


BETA = 0.5


@pytest.mark.parametrize("name", ["mime", "mime_lite"])
@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_is_the_papers(worker: Worker, make_shards: Make, name: str, weighting: str) -> None:
    settings = train_settings(**TRAINING, algorithm=name, **{name: {"beta": BETA}}, client_weighting=weighting)
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    momentum: Weights = [np.zeros_like(w) for w in weights]
    beta = np.float32(BETA)
    for cohort in COHORTS:
        everyone = [reference.samples_of(shards, client) for client in cohort]
        masses = [SIZES[k] if weighting == "examples" else float(SIZES[k] > 0) for k in cohort]
        full = [reference.losses_and_gradient(weights, samples)[1] for samples in everyone]
        mean = reference.mean(full, masses)
        updates = []
        for samples in everyone:
            batches = reference.batches(samples, settings)

            def mimicked(gradients: Weights, now: Weights, batches=batches, first=weights) -> Weights:  # type: ignore[no-untyped-def]
                if name == "mime":
                    there = reference.losses_and_gradient(first, next(batches))[1]
                    gradients = [g - t + c for g, t, c in zip(gradients, there, mean, strict=True)]  # noqa: B023
                return [(1 - beta) * g + beta * s for g, s in zip(gradients, momentum, strict=True)]  # noqa: B023

            updates.append(reference.sgd(weights, samples, settings, hook=mimicked)[0])
        weights = reference.moved(weights, reference.mean(updates, masses))
        momentum = [(1 - beta) * c + beta * s for c, s in zip(mean, momentum, strict=True)]
    reference.assert_close(ended.weights, weights)


def test_without_momentum_mime_lite_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    lite = run(worker, train_settings(**TRAINING, algorithm="mime_lite", mime_lite={"beta": 0.0}), shards, COHORTS)
    assert same_bits(lite.weights, run(worker, train_settings(**TRAINING), shards, COHORTS).weights)


@pytest.mark.parametrize("name", ["mime", "mime_lite"])
@pytest.mark.parametrize("change", [{"name": "adam"}, {"momentum": 0.5}])
def test_other_steps_are_refused(name: str, change: dict) -> None:
    with pytest.raises(ValueError, match=f"'train.algorithm' {name} gives clients the server's momentum: set 'train"):
        train_settings(algorithm=name, client_optimizer=change)
