"""IFCA against plain NumPy: all models, and who chose which."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from fedpipe.seeds import Purpose, generator
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, TRAINING, Weights
from tests.fedpipe.training import model_of, run, train_settings

Make = Callable[[list[int]], Path]
SIZES = [1, 2, 0, 3, 1]  # so small that clients differ


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("clusters", [1, 3])
def test_each_model_moves_with_the_clients_that_chose_it(
    worker: Worker, make_shards: Make, clusters: int, weighting: str
) -> None:
    settings = train_settings(
        **TRAINING,
        algorithm="ifca",
        ifca={"clusters": clusters},
        client_weighting=weighting,
        server_optimizer={"learning_rate": 0.5},
    )
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    models: list[Weights] = [
        model_of(settings).first_weights(generator(settings.seed, Purpose.CLUSTERS, client=j)) for j in range(clusters)
    ]
    used: set[int] = set()
    for number, cohort in enumerate(COHORTS):
        updates: list[list[Weights]] = [[] for _ in models]
        masses: list[list[float]] = [[] for _ in models]
        seen, sizes = [0] * clusters, [0] * clusters
        for client in cohort:
            samples = reference.samples_of(shards, client)
            if not len(samples.y):
                continue
            chosen = int(np.argmin([reference.losses_and_gradient(m, samples)[0].mean() for m in models]))
            updates[chosen].append(reference.sgd(models[chosen], samples, settings)[0])
            masses[chosen].append(len(samples.y) if weighting == "examples" else 1.0)
            seen[chosen] += settings.local_epochs * len(samples.y)
            sizes[chosen] += 1
        for j in range(clusters):
            if updates[j]:
                models[j] = reference.moved(models[j], reference.mean(updates[j], masses[j]), 0.5)
        assert [float(ended.rounds[number][f"cluster_{j}"]) for j in range(clusters)] == seen
        assert [int(ended.rounds[number][f"cluster_{j}_clients"]) for j in range(clusters)] == sizes
        used |= {j for j in range(clusters) if seen[j]}
    assert len(used) > 1 or clusters == 1  # or nothing was tested
    actual = [leaf for leaf in ended.state if leaf.shape[:1] == (clusters,) and len(leaf.shape) > 1]
    reference.assert_close(actual, [np.stack(parts) for parts in zip(*models, strict=True)])
    reference.assert_close(ended.weights, models[int(np.argmax(seen))])


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"server_optimizer": {"momentum": 0.9}}, "'train.server_optimizer.name' to sgd and"),
        ({"aggregator": "median"}, "'train.aggregator' to mean"),
        ({"init": "champion"}, "'train.init' to fresh"),
    ],
)
def test_what_does_not_go_with_it_is_refused(change: dict, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"'train.algorithm' ifca .*: set {remedy}"):
        train_settings(algorithm="ifca", **change)
