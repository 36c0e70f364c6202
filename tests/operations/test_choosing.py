"""docs/choosing.md is what the checks say, and what they let through can be trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fedpipe import config
from fedpipe.config import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from operations import choosing
from tests import ROOT
from tests.fedpipe.training import first_weights, model_of

TREE = config.read_yaml(ROOT / "params.yaml")
PARAMS, CLIENTS = TREE["train"], TREE["partition"]["clients"]
JOB = choosing.Job(10, asked=8, goal=6)


def test_the_page_is_current() -> None:
    written = (ROOT / choosing.PAGE).read_text(encoding="utf-8")
    assert written == choosing.page(TREE), "run python -m operations.choosing"


def test_every_choice_goes_with_something() -> None:
    job = choosing.Job(CLIENTS)
    keys = (*choosing.KEYS, choosing.AVAILABILITY)
    pairs = [(key, name) for key in keys for name in job.choices(key)]
    assert not [pair for pair in pairs if not choosing.fitting_bases(PARAMS, job, *pair)]


def test_a_refusal_is_found_and_its_reason_is_that_of_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedpipe.aggregators import median
    from fedpipe.cohorts import uniform

    monkeypatch.setattr(median, "mechanism", None, raising=False)  # as one that accounts for privacy
    monkeypatch.setattr(uniform, "MAY_BE_EMPTY", True, raising=False)  # as one that draws each client by itself
    found = choosing.refused_pairs(PARAMS, choosing.Job(CLIENTS))
    assert "send their losses, without noise" in found["aggregator", "median", "cohort", "power_of_choice"]
    assert "'train.availability' changes them" in found["aggregator", "median", "availability", "cyclic"]
    assert "would cut its cohorts to a fixed size" in found["cohort", "uniform", "availability", "report_goal"]
    assert ("aggregator", "mean", "availability", "cyclic") not in found


def test_a_goal_below_what_an_aggregator_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedpipe.aggregators import median

    monkeypatch.setattr(median, "smallest_cohort", lambda settings: 7, raising=False)
    content = JOB.content(
        PARAMS, {"aggregator": "median", "availability": "report_goal"}, {"clients_per_round": JOB.asked}
    )
    assert "needs 7 clients in a round, and a round has 6: make rounds larger" in str(JOB.refusal(content))


def test_a_cohort_that_is_too_small_with_these_clients_is_refused() -> None:
    """One client of ten in a round, on average, and Krum needs five."""
    content = JOB.content(PARAMS, {"aggregator": "krum", "cohort": "poisson"}, {"clients_per_round": "all"})
    assert "krum needs 5 clients" in str(JOB.refusal(content))
    assert choosing.Job(CLIENTS).refusal(content) is None


@st.composite
def trainings(draw: Any) -> dict[str, Any]:
    """Section train with a random choice of each key, one after the other among those that go with the ones before."""
    others = {
        "model": "mcmahan_2nn",  # personal layers need more than one
        "mcmahan_2nn": {},
        "power_of_choice": {"candidates": 9},
        "rounds": 2,
        "evaluate_every": 0,
        "batch_size": 4,
        "seed": draw(st.integers(0, 100)),
    }
    chosen: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for key in draw(st.permutations((*choosing.KEYS, choosing.AVAILABILITY))):
        legal: dict[str, list[dict[str, Any]]] = {}
        for name in JOB.choices(key):
            contents = [JOB.content(PARAMS, chosen | {key: name}, base) | others for base in JOB.bases()]
            legal[name] = [content for content in contents if JOB.refusal(content) is None]
        possible = [name for name, contents in legal.items() if contents]
        if possible:
            chosen[key] = draw(st.sampled_from(possible))
            found = legal[chosen[key]]
    return draw(st.sampled_from(found))


# Not shrunk: each try is a training.
@examples(max_examples=6, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(content=trainings())
def test_legal_combinations_train(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    from fedpipe.runtime.training import train

    settings = Train.fitting(content).model_validate(content)
    shards, folder = make_shards([6] * 10), tmp_path_factory.mktemp("training")
    arguments = settings, Manifest.read(shards), first_weights(settings), shards, worker
    try:
        trained = train(model_of(settings), *arguments, lambda *_: None, folder=folder)
    except PipelineError as error:
        assert "not finite" in str(error)  # what an attack may lead to
        return
    assert len(trained.records) == 2 and all(np.isfinite(each).all() for each in trained.weights)
