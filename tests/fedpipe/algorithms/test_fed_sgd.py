"""FedSGD against plain NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_is_the_papers(worker: Worker, make_shards: Make, weighting: str) -> None:
    settings = train_settings(
        **TRAINING | {"local_epochs": 1},
        algorithm="fed_sgd",
        client_weighting=weighting,
        server_optimizer={"learning_rate": 0.1},
    )
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    for number, cohort in enumerate(COHORTS):
        everyone = [reference.samples_of(shards, k) for k in cohort]
        found = [reference.losses_and_gradient(weights, samples) for samples in everyone]
        masses = [SIZES[k] if weighting == "examples" else float(SIZES[k] > 0) for k in cohort]
        weights = reference.moved(weights, reference.mean([gradient for _, gradient in found], masses), 0.1)
        loss = sum(float(losses.sum()) for losses, _ in found)
        np.testing.assert_allclose(float(ended.rounds[number]["loss"]), loss, rtol=1e-5)
        assert int(ended.rounds[number]["seen"]) == sum(SIZES[k] for k in cohort)
    reference.assert_close(ended.weights, weights)


@pytest.mark.parametrize(
    "change",
    [{"local_epochs": 2}, {"client_optimizer": {"weight_decay": 0.1}}, {"client_optimizer": {"clip_norm": 1.0}}],
)
def test_local_steps_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"'train.algorithm' fed_sgd takes no local steps: set 'train\.(local|client)"):
        train_settings(algorithm="fed_sgd", **change)


def test_stragglers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of which a straggler would do a part: set 'train.availability.stragglers"):
        train_settings(algorithm="fed_sgd", availability={"stragglers": {"share": 0.5, "least_work": 0.1}})
