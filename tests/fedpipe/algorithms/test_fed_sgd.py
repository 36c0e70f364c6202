"""FedSGD: what it refuses (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fedpipe.training import train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize(
    "change",
    [{"local_epochs": 2}, {"client_optimizer": {"weight_decay": 0.1}}, {"client_optimizer": {"clip_norm": 1.0}}],
)
def test_local_steps_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"'train.algorithm' fed_sgd takes no local steps: set 'train\.(local|client)"):
        train_settings(algorithm="fed_sgd", **change)


def test_batches_are_not_dropped() -> None:
    with pytest.raises(ValueError, match=r"fed_sgd takes the gradient of all samples: set 'train.last_batch' to keep"):
        train_settings(algorithm="fed_sgd", last_batch="drop")


def test_stragglers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of which a straggler would do a part: set 'train.availability.stragglers"):
        train_settings(algorithm="fed_sgd", availability={"stragglers": {"share": 0.5, "least_work": 0.1}})
