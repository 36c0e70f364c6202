"""Aggregators that clip say to what norm, and how many clients they clipped, against NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.runtime.worker import Worker
from tests.fedpipe.aggregators.test_aggregators import CLIENTS, sending, updates
from tests.fedpipe.training import Ended, run, train_settings

Make = Callable[[list[int]], Path]
COHORTS = [[1, 4, 9, 13], list(range(CLIENTS))]
CLIPPING = ("clipped_mean", "dp_ftrl", "dp_gaussian", "local_dp", "secure_sum")


def ended(worker: Worker, make_shards: Make, aggregator: str, **own: Any) -> Ended:
    settings = train_settings(
        model="logistic_regression", aggregator=aggregator, client_weighting="uniform", **{aggregator: own}
    )
    return run(worker, settings, make_shards([1] * CLIENTS), COHORTS, algorithm=sending(updates()))


def norms() -> np.ndarray:
    return np.sqrt(sum(np.square(part).reshape(CLIENTS, -1).sum(axis=1) for part in updates()))


def test_these_aggregators_clip() -> None:
    assert tuple(name for name, file in AGGREGATORS.all() if file.clip_norm is not None) == CLIPPING


@pytest.mark.parametrize("aggregator", CLIPPING)
def test_norm_and_share_of_clipped_clients_are_measured(worker: Worker, make_shards: Make, aggregator: str) -> None:
    rounds = ended(worker, make_shards, aggregator, norm=2.0).rounds
    for cohort, measured in zip(COHORTS, rounds, strict=True):
        clipped = float((norms()[cohort] > 2.0).mean())
        assert 0 < clipped < 1 and measured["clipped"] / len(cohort) == pytest.approx(clipped)
        assert measured["clip_norm"] == 2.0


def test_a_norm_that_adapts_is_that_of_the_round(worker: Worker, make_shards: Make) -> None:
    own = {"norm": 1.0, "noise_multiplier": 1e-9, "clipping": "adaptive", "count_stddev": 1e-9, "quantile": 0.9}
    first, second = ended(worker, make_shards, "dp_gaussian", **own).rounds
    assert first["clip_norm"] == 1.0 < second["clip_norm"]
    clipped = float((norms() > second["clip_norm"]).mean())
    assert second["clipped"] / CLIENTS == pytest.approx(clipped)


def test_what_is_measured_is_not_sent(worker: Worker, make_shards: Make) -> None:
    sent = {
        name: ended(worker, make_shards, name, **own).bytes
        for name, own in (("mean", {}), ("clipped_mean", {"norm": 2.0}))
    }
    assert sent["mean"] == sent["clipped_mean"]
