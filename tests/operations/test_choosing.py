"""docs/choosing.md is what the checks say."""

from dataclasses import replace
from typing import Any

import pytest

from fedpipe import config
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.cohort import COHORTS
from fedpipe.contracts.registry import Registry
from operations import choosing
from tests import RECIPE, ROOT

TREE = config.read_yaml(RECIPE / "params.yaml")
PARAMS, CLIENTS = TREE["train"], TREE["partition"]["clients"]
JOB = choosing.Job(10, cohort_size=8, goal=6)


def changed(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], name: str, **names: Any) -> None:
    """Lets a file define other ``names``."""
    monkeypatch.setitem(registry._choices, name, replace(registry.of(name), **names))


def test_the_page_is_current() -> None:
    written = (ROOT / choosing.PAGE).read_text(encoding="utf-8")
    assert written == choosing.page(TREE), "run python -m operations.choosing"


def test_every_choice_goes_with_something() -> None:
    job = choosing.Job(CLIENTS)
    keys = (*choosing.KEYS, choosing.AVAILABILITY)
    pairs = [(key, name) for key in keys for name in job.choices(key)]
    assert not [pair for pair in pairs if not choosing.fitting_bases(PARAMS, job, *pair)]


def test_a_refusal_is_found_and_its_reason_is_that_of_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, AGGREGATORS, "median", mechanism=lambda settings, clients: None)  # accounts for privacy
    changed(monkeypatch, COHORTS, "uniform", MAY_BE_EMPTY=True)  # draws each client by itself
    monkeypatch.setattr(choosing, "KEYS", ("aggregator", "cohort"))  # trying all pairs takes long
    actual = choosing.refused_pairs(PARAMS, choosing.Job(CLIENTS))
    assert "send their losses, without noise" in actual["aggregator", "median", "cohort", "power_of_choice"]
    assert "'train.availability' changes them" in actual["aggregator", "median", "availability", "cyclic"]
    assert "would cut its cohorts to a fixed size" in actual["cohort", "uniform", "availability", "report_goal"]
    assert ("aggregator", "mean", "availability", "cyclic") not in actual


def test_a_goal_below_what_an_aggregator_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, AGGREGATORS, "median", smallest_cohort=lambda settings: 7)
    content = JOB.content(
        PARAMS, {"aggregator": "median", "availability": "report_goal"}, {"clients_per_round": JOB.cohort_size}
    )
    assert "needs 7 clients in a round, and a round has 6: make rounds larger" in str(JOB.refusal(content))


def test_a_cohort_that_is_too_small_with_these_clients_is_refused() -> None:
    """One client of ten in a round, on average, and Krum needs five."""
    content = JOB.content(PARAMS, {"aggregator": "krum", "cohort": "poisson"}, {"clients_per_round": "all"})
    assert "krum needs 5 clients" in str(JOB.refusal(content))
    assert choosing.Job(CLIENTS).refusal(content) is None
