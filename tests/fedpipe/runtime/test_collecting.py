"""Refusals before the first round: too few clients, too little memory."""

from types import SimpleNamespace
from typing import Any

import pytest

from fedpipe.config.train import AGGREGATORS
from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task
from fedpipe.runtime import collecting
from tests.fedpipe.training import model_of, train_settings


def checked(clients: int, **changes: Any) -> None:
    settings = train_settings(model="logistic_regression", **changes)
    collecting.check(Task(model_of(settings), settings, clients), AGGREGATORS.module(settings.aggregator))


def test_all_clients_may_be_too_few() -> None:
    checked(11, aggregator="bulyan", bulyan={"attackers": 2})
    with pytest.raises(PipelineError, match=r"'train.aggregator' bulyan needs 11 .*, and there are 10: raise"):
        checked(10, aggregator="bulyan", bulyan={"attackers": 2})


def test_updates_must_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 clients x 7,850 weights x 4 bytes = 31.4 MB = 0.03 GiB, three times."""
    free = SimpleNamespace(available=3 * 31_400_000)
    monkeypatch.setattr(collecting.psutil, "virtual_memory", lambda: free)
    checked(1000, aggregator="median")
    free.available -= 1
    with pytest.raises(PipelineError, match=r"median holds .*1000 clients x 7,850 weights x 4 bytes = 0.03 GiB.*lower"):
        checked(1000, aggregator="median")
    checked(100, aggregator="median")
    checked(1000, aggregator="clipped_mean")
