"""FedDyn against plain NumPy: weights, h, and what the clients keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


ALPHA = 0.1


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_is_the_papers(worker: Worker, make_shards: Make, weighting: str) -> None:
    settings = train_settings(**TRAINING, algorithm="fed_dyn", fed_dyn={"alpha": ALPHA}, client_weighting=weighting)
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    h: Weights = [np.zeros_like(w) for w in weights]
    kept = [[np.zeros_like(w) for w in weights] for _ in SIZES]
    alpha = np.float32(ALPHA)
    for cohort in COHORTS:
        updates = []
        for client in cohort:
            mine = kept[client]

            def regularised(gradients: Weights, now: Weights, mine=mine, first=weights) -> Weights:  # type: ignore[no-untyped-def]
                parts = zip(gradients, mine, now, first, strict=True)
                return [g - m + alpha * (w - f) for g, m, w, f in parts]

            update, _, _ = reference.sgd(weights, reference.samples_of(shards, client), settings, hook=regularised)
            updates.append(update)
            kept[client] = [m + alpha * u for m, u in zip(mine, update, strict=True)]
        masses = [SIZES[k] if weighting == "examples" else float(SIZES[k] > 0) for k in cohort]
        mean = reference.mean(updates, masses)
        share = np.float32(sum(SIZES[k] > 0 for k in cohort) / len(SIZES))
        h = [part + alpha * share * u for part, u in zip(h, mean, strict=True)]
        weights = [w - u - part / alpha for w, u, part in zip(weights, mean, h, strict=True)]
    reference.assert_close(ended.weights, weights)
    assert set(ended.kept) == {"0.3", "1.2", "2.3", "3.3", "4.2"}  # the last file of each client
    for name, found in ended.kept.items():
        expected = np.concatenate([part.ravel() for part in kept[int(name.split(".")[0])]])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_clients_are_sent_the_weights_only(worker: Worker, make_shards: Make) -> None:
    ended = run(worker, train_settings(**TRAINING, algorithm="fed_dyn"), make_shards([5]), [[0]])
    assert ended.bytes[0] == 7_850 * 4


def test_an_attacker_reaches_neither_weights_nor_h_through_the_median(worker: Worker, make_shards: Make) -> None:
    """One of five sends its update times 1000, and moves both far away through the mean."""
    changes: Any = TRAINING | {"algorithm": "fed_dyn", "client_weighting": "uniform"}
    attack: Any = {"attack": "scaled_update", "scaled_update": {"factor": 1000.0}, "attackers": 0.2}
    shards, cohorts = make_shards([20] * 5), [[0, 1, 2, 3, 4]] * 2

    def farthest(aggregator: str) -> float:
        states = [
            run(worker, train_settings(**changes, **more, aggregator=aggregator), shards, cohorts).state
            for more in (attack, {})
        ]
        return max(float(np.abs(a - b).max()) for a, b in zip(*states, strict=True))

    assert farthest("median") < 0.5 and farthest("mean") > 10
