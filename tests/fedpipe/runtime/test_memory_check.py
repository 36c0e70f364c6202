"""Refusals before the first round: too few clients, too little memory."""

from types import SimpleNamespace
from typing import Any

import pytest

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task
from fedpipe.runtime import memory_check
from tests.fedpipe.training import model_of, train_settings


def checked(clients: int, **changes: Any) -> None:
    settings = train_settings(model="logistic_regression", **changes)
    memory_check.require_memory(Task(model_of(settings), settings, clients), AGGREGATORS.of(settings.aggregator))


def test_all_clients_may_be_too_few() -> None:
    checked(11, aggregator="bulyan", bulyan={"attackers": 2})
    with pytest.raises(PipelineError, match=r"^params.yaml: 'train.aggregator' bulyan needs 11 .* has 10: "):
        checked(10, aggregator="bulyan", bulyan={"attackers": 2})


def test_updates_must_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 clients x 7,850 weights x 4 bytes = 31.4 MB = 0.03 GiB, three times."""
    free = SimpleNamespace(available=3 * 31_400_000)
    monkeypatch.setattr(memory_check.psutil, "virtual_memory", lambda: free)
    checked(1000, aggregator="median")
    free.available -= 1
    with pytest.raises(PipelineError, match=r"median holds .*1000 clients x 7,850 weights x 4 bytes = 0.03 GiB.*make"):
        checked(1000, aggregator="median")
    checked(100, aggregator="median")
    checked(1000, aggregator="clipped_mean")


DEVICES = {"devices": {"seconds_per_sample": 0.1}}


@pytest.mark.parametrize(
    ("changes", "updates", "key"),
    [
        ({}, 100_000, "train.clients_per_round"),
        ({"clients_per_round": 500}, 500, "train.clients_per_round"),
        ({"clients_per_round": 500, "availability": DEVICES | {"report_goal": 400}}, 400, "train.availability.report_"),
        ({"cohort": "fixed", "fixed": {"ids": list(range(10))}}, 10, "train.fixed.ids"),
        ({"cohort": "poisson", "poisson": {"probability": 0.01}}, 1189, "train.poisson.probability"),
        ({"algorithm": "fed_buff", "fed_buff": {"buffer_size": 20}, "availability": DEVICES}, 20, "train.fed_buff."),
    ],
)
def test_what_counts_is_how_many_updates_a_round_has(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], updates: int, key: str
) -> None:
    """Of 100,000 clients. Poisson's are 1,000 on average, with a standard deviation of 31.5."""
    free = SimpleNamespace(available=3 * updates * 31_400)
    monkeypatch.setattr(memory_check.psutil, "virtual_memory", lambda: free)
    checked(100_000, aggregator="median", **changes)
    free.available -= 1
    with pytest.raises(PipelineError, match=f" {updates} clients x 7,850 .*: make rounds smaller with '{key}"):
        checked(100_000, aggregator="median", **changes)
