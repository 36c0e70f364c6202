"""SCAFFOLD: its first round, and refusals (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import SIZES, TRAINING
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]


def test_the_first_round_is_that_of_fed_avg(worker: Worker, make_shards: Make) -> None:
    """All control variates are zeros then."""
    shards = make_shards(SIZES)
    scaffold = run(worker, train_settings(**TRAINING, algorithm="scaffold"), shards, [[0, 1]])
    assert same_bits(scaffold.weights, run(worker, train_settings(**TRAINING), shards, [[0, 1]]).weights)
    assert scaffold.bytes == (2 * 7_850 * 4, 2 * 7_850 * 4)


def test_other_optimizers_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"scaffold takes mean gradients from the steps of SGD, and 'train.* is adam: "
    ):
        train_settings(algorithm="scaffold", client_optimizer={"name": "adam"})


def test_clipped_steps_are_no_mean_gradients() -> None:
    clipped = {"client_optimizer": {"clip_norm": 1.0}}
    with pytest.raises(ValueError, match=r"clip_norm' makes shorter: set it to 0.0, or 'train.scaffold.option' to 1"):
        train_settings(algorithm="scaffold", **clipped)
    train_settings(algorithm="scaffold", scaffold={"option": 1}, **clipped)
