"""FedPer and FedRep: what they refuse (test_papers.py compares them with their papers)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import TRAINING
from tests.fedpipe.training import run, train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("name", ["fed_per", "fed_rep"])
def test_one_layer_must_be_shared(worker: Worker, make_shards: Make, name: str) -> None:
    settings = train_settings(**TRAINING, algorithm=name)
    with pytest.raises(
        PipelineError, match=f"'train.{name}.layers' is 1, and the model has 1 layers with weights: give"
    ):
        run(worker, settings, make_shards([5]), [[0]])


def test_weight_decay_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fed_rep trains some .*: set 'train.client_optimizer.weight_decay' to 0.0"):
        train_settings(algorithm="fed_rep", client_optimizer={"weight_decay": 0.1})
