"""FedAsync with compressors and attacks (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import SIZES
from tests.fedpipe.algorithms.test_fed_buff import cohorts_of, settings_of
from tests.fedpipe.training import first_weights, run, same_bits

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("change", [{"compressor": "quantisation"}, {"attack": "sign_flip", "attackers": 0.9}])
def test_compressors_and_attacks_change_the_update_not_the_model(
    worker: Worker, make_shards: Make, change: dict[str, Any]
) -> None:
    """A model of which the sign is flipped would be far away; one whose update is flipped is as near as before."""
    shards, first = make_shards(SIZES), first_weights(settings_of("fed_async"))
    plain = settings_of("fed_async", fed_async={"alpha": 1.0, "mu": 0.0})
    other = settings_of("fed_async", fed_async={"alpha": 1.0, "mu": 0.0}, **change)
    of_plain, of_other = (run(worker, each, shards, cohorts_of(plain, 1)).weights for each in (plain, other))
    steps, others = (
        np.concatenate([(w - f).ravel() for w, f in zip(each, first, strict=True)]) for each in (of_plain, of_other)
    )
    assert not same_bits(of_plain, of_other)
    assert np.linalg.norm(others) == pytest.approx(np.linalg.norm(steps), rel=0.05)
