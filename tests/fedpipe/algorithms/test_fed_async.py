"""FedAsync against plain NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import SIZES, Weights
from tests.fedpipe.algorithms.test_fed_buff import cohorts_of, rows, settings_of
from tests.fedpipe.training import first_weights, run, same_bits

Make = Callable[[list[int]], Path]
FACTORS: dict[str, Callable[[int], float]] = {
    "constant": lambda s: 1.0,
    "polynomial": lambda s: (1 + s) ** -0.7,
    "hinge": lambda s: 1.0 if s <= 1 else 1 / (3 * (s - 1) + 1),
}


@pytest.mark.parametrize("staleness", FACTORS)
def test_is_the_papers(worker: Worker, make_shards: Make, staleness: str) -> None:
    mu, params = 0.1, {"alpha": 0.4, "staleness": staleness, "exponent": 0.7, "slope": 3.0, "late": 1}
    settings = settings_of("fed_async", fed_async={**params, "mu": mu, "concurrency": 4})
    shards, cohorts = make_shards(SIZES), cohorts_of(settings, 10)
    ended = run(worker, settings, shards, cohorts)
    weights = first_weights(settings)
    under_way: dict[int, tuple[int, Weights]] = {}
    late = 0
    for number, cohort in enumerate(cohorts, 1):
        before = weights
        for client, starts, arrives in rows(cohort):
            if starts:

                def pulled(gradients: Weights, now: Weights, first: Weights = before) -> Weights:
                    return [g + np.float32(mu) * (w - f) for g, w, f in zip(gradients, now, first, strict=True)]

                samples = reference.samples_of(shards, client)
                update, _, _ = reference.sgd(before, samples, settings, hook=pulled)
                under_way[client] = number, [w - u for w, u in zip(before, update, strict=True)]
            if arrives:
                since, model = under_way[client]
                share = np.float32(0.4 * FACTORS[staleness](number - since))
                weights = [(1 - share) * w + share * mine for w, mine in zip(before, model, strict=True)]
                late = max(late, number - since)
        reference.assert_close(ended.weights_by_round[number - 1], weights)
    assert late >= 3


@pytest.mark.parametrize("change", [{"compressor": "quantisation"}, {"attack": "sign_flip", "attackers": 0.9}])
def test_compressors_and_attacks_change_the_update_not_the_model(
    worker: Worker, make_shards: Make, change: dict[str, Any]
) -> None:
    """A model of which the sign is flipped would be far away; one whose update is flipped is as near as before."""
    shards, first = make_shards(SIZES), first_weights(settings_of("fed_async"))
    plain = settings_of("fed_async", fed_async={"alpha": 1.0, "mu": 0.0})
    other = settings_of("fed_async", fed_async={"alpha": 1.0, "mu": 0.0}, **change)
    one, two = (run(worker, each, shards, cohorts_of(plain, 1)).weights for each in (plain, other))
    steps, others = (np.concatenate([(w - f).ravel() for w, f in zip(each, first, strict=True)]) for each in (one, two))
    assert not same_bits(one, two)
    assert np.linalg.norm(others) == pytest.approx(np.linalg.norm(steps), rel=0.05)
