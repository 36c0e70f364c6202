"""Mime and MimeLite: FedAvg as a special case, and refusals (test_papers.py compares them with their paper)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]


def test_without_momentum_mime_lite_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    lite = run(worker, train_settings(**TRAINING, algorithm="mime_lite", mime_lite={"beta": 0.0}), shards, COHORTS)
    assert same_bits(lite.weights, run(worker, train_settings(**TRAINING), shards, COHORTS).weights)


@pytest.mark.parametrize("name", ["mime", "mime_lite"])
@pytest.mark.parametrize("change", [{"name": "adam"}, {"momentum": 0.5}])
def test_other_steps_are_refused(name: str, change: dict) -> None:
    with pytest.raises(ValueError, match=f"'train.algorithm' {name} gives clients the server's momentum: set 'train"):
        train_settings(algorithm=name, client_optimizer=change)
