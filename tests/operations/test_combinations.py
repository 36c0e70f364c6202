"""What the checks of params.yaml let through can be trained: every choice at least once, and random combinations."""

import os
import secrets
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from tests.fedpipe.resuming import digest
from tests.operations.combinations import changed, combination, covering, trained

RANDOM_ONES, SECONDS = 300, 900.0
TWICE = 5  # one of so many runs twice


def twice(content: dict[str, Any], shards: Path, worker: Worker, folder: Path, times: int) -> Trained | str:
    """Trains once, or twice to the same bits."""
    first, *others = (trained(content, shards, worker, folder / str(number)) for number in range(times))
    for other in others:
        assert one_digest(other, folder / "1") == one_digest(first, folder / "0")
    return first


def one_digest(ended: Trained | str, folder: Path) -> str:
    return ended if isinstance(ended, str) else digest(ended, folder)


@pytest.mark.slow  # tests/fedpipe/test_bits.py::test_two_processes trains them in two processes
def test_every_choice_trains(worker: Worker, small_images: Path, tmp_path: Path) -> None:
    for number, content in enumerate(covering(seed=2024)):
        (folder := tmp_path / str(number)).mkdir()
        try:
            ended = twice(content, small_images, worker, folder, 1 + (number % TWICE == 0))
            assert isinstance(ended, Trained) and any(record.loss for record in ended.records)
        except BaseException as error:
            error.add_note(f"section train: {content}")
            raise


@pytest.mark.slow
def test_random_combinations_train(worker: Worker, small_images: Path, tmp_path: Path) -> None:
    """Others in each run; FEDPIPE_COMBINATIONS=SEED has those of another run, SEED/NUMBER one of them."""
    seed, _, only = os.environ.get("FEDPIPE_COMBINATIONS", str(secrets.randbits(32))).partition("/")
    end = time.monotonic() + SECONDS
    for number in [int(only)] if only else range(RANDOM_ONES):
        if time.monotonic() > end:
            warnings.warn(f"{number} of {RANDOM_ONES} combinations of seed {seed} ran in {SECONDS:g} s", stacklevel=1)
            break
        chance = Random(f"{seed}/{number}")
        content = changed(combination(chance), chance)
        (folder := tmp_path / str(number)).mkdir()
        try:
            twice(content, small_images, worker, folder, 1 + (number % TWICE == 0))
        except BaseException as error:
            error.add_note(f"FEDPIPE_COMBINATIONS={seed}/{number} runs it again; section train: {content}")
            raise
