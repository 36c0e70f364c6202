"""Figures on held-out samples in a secure sum: the total of all sites, and nothing of a single one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.evaluation.held_out import by_site, section
from fedpipe.federation.measuring import AtSites, ask_sites
from fedpipe.federation.messages import SecureMeasure, pack, unpack_answer, unpack_question
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_measuring import roster_of
from fedpipe.networks.network import Network, Weights
from fedpipe.secure_aggregation.message import kind_of
from fedpipe.secure_aggregation.site_messages import Masked
from tests import RECIPE
from tests.fedpipe.federation.sites import HELD_OUT, OPEN, Sites, with_held_out
from tests.fedpipe.federation.test_measuring import BATCH
from tests.fedpipe.training import model_of, train_settings

SECURE = {"aggregators": ["secure_sum"], "counts": "exact"}
CLIENTS = [3, 3, 3, 3]
Start = Callable[..., AbstractContextManager[Sites]]


@pytest.fixture(scope="module")
def start(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Four sites with a policy."""
    options = {**OPEN, **SECURE, "clients": CLIENTS}
    return lambda **policy: with_held_out(tmp_path_factory.mktemp("measured"), training_set, **{**options, **policy})


@pytest.fixture(scope="module")
def model() -> tuple[Network, Weights]:
    network = model_of(train_settings(model="mcmahan_2nn"), (8, 8, 1))
    return network, network.first_weights(np.random.default_rng(3))


def ask(sites: Sites, model: tuple[Network, Weights], quorum: int | None = None) -> AtSites:
    return ask_sites(sites, Manifest.read(sites.coordinator), *model, BATCH, quorum, sites.roster)


@pytest.mark.slow
def test_the_coordinator_gets_the_total_of_all_sites_and_nothing_of_a_single_one(
    start: Start, model: tuple[Network, Weights]
) -> None:
    """Also when a site was started anew in between; a model is measured again in the same set of sites only."""
    with start() as sites:
        answers: list[bytes] = []

        def restart_once(name: str, question: bytes) -> None:
            if len(sites.questions) == 7:  # a letter of site-3
                sites.stop(name)
                sites.start(name)
            answers.append(sites.running[name].answer(question))

        sites.before = restart_once
        of_sites = ask(sites, model)
        sites.before = lambda name, question: None
        expected = section(by_site(*model, sites.folder / "pooled_tests", Manifest.read(sites.pooled), BATCH))
        figures, single = of_sites.figures()["test"], list(expected["sites"].values())
        assert set(figures) == {"held_out"} and not any(of_sites.sums.values()) and not of_sites.because
        assert figures["held_out"]["samples"] == sum(HELD_OUT)
        assert figures["held_out"]["accuracy"] == expected["held_out"]["accuracy"]
        assert figures["held_out"]["loss"] == pytest.approx(expected["held_out"]["loss"], abs=2.0**-22)
        assert of_sites.accuracies == {"all sites together": expected["held_out"]["accuracy"]}
        assert {unpack_question(question).message.kind for _, question in sites.questions} == {"secure_measure"}
        steps = [parcel.arrays[0].tobytes() for parcel in map(unpack_answer, answers) if parcel.arrays]
        masked = [Masked.decode(step) for step in steps if kind_of(step) == Masked.KIND]
        numbers = {number for each in masked for number in each.vector.quantities.tolist()}
        assert len(masked) >= len(CLIENTS) and not numbers & {each["samples"] for each in single}
        assert ask(sites, model).figures() == of_sites.figures()
        sites.stop("site-4")
        fewer = ask(sites, model, quorum=3)
        assert fewer.together is None and "answered in another set of sites" in fewer.because["site-1"]
        with pytest.raises(PipelineError, match="site-4 was not connected"):
            ask(sites, model)


@pytest.mark.slow
def test_sites_without_figures_take_no_part_and_fewer_than_three_have_no_sum(
    start: Start, model: tuple[Network, Weights]
) -> None:
    with start(least_clients=3) as sites:  # of the three clients of site-1, two have held-out samples
        of_sites = ask(sites, model)
    assert of_sites.because == {"site-1": "its policy wants 3 clients and 1 samples in a sum at least"}
    assert of_sites.together is not None and of_sites.together.samples == sum(HELD_OUT[3:])
    with start(held_out_counts=False) as sites:
        of_sites = ask(sites, model)
    assert of_sites.together is None and of_sites.because["site-4"] == "its policy tells nothing of held-out samples"
    with start(least_sites=5) as sites:
        assert "its policy wants 5 sites in a sum at least" in ask(sites, model).because["site-1"]


def test_where_sums_leave_in_secure_sums_only_figures_do_not_leave_beside_them(
    start: Start, model: tuple[Network, Weights]
) -> None:
    with start() as sites:
        of_sites = ask_sites(sites, Manifest.read(sites.coordinator), *model, BATCH)
    assert not any(of_sites.sums.values())
    assert of_sites.because["site-2"] == "its policy lets sums leave in secure sums only"
    least = {"least_clients": 5, "least_samples": 500}
    assert Policy.model_validate(least | {"aggregators": ["secure_sum"]}).counts == "withheld"
    assert Policy.model_validate(least | SECURE).counts == "exact"
    assert Policy.model_validate(least | {"aggregators": ["secure_sum", "mean"]}).counts == "exact"


@pytest.mark.slow
def test_a_site_refuses_a_sum_of_figures_of_another_roster_or_of_other_shards(
    start: Start, model: tuple[Network, Weights]
) -> None:
    with start(rounds=1) as sites:
        wrong: dict[str, dict[str, Any]] = {
            "its roster is not the coordinator's": {"roster": "a" * 64},
            "its roster has 4 sites, and the training 5": {"sites": 5},
            "its shards are others than the coordinator knows": {"digest": "a" * 64},
            "it speaks version": {"version": 1},
        }
        for sentence, changes in wrong.items():

            def changed(name: str, question: bytes, changes: dict[str, Any] = changes) -> bytes:
                message, arrays = unpack_question(question)
                return pack(message.model_copy(update=changes), arrays) if name == "site-1" else question

            sites.changed = changed
            assert sentence in ask(sites, model).because["site-1"]
        sites.changed = lambda name, question: question
        assert (
            "its policy allows 1 rounds in all"
            in ask(sites, (model[0], [2 * each for each in model[1]])).because["site-2"]
        )
        kinds = [type(unpack_question(question).message) for _, question in sites.questions]
        assert set(kinds) == {SecureMeasure}


def test_a_training_with_secure_sums_needs_a_roster_for_figures(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    assert roster_of(file, tmp_path / "roster.yaml") is None
    secure = text.replace("aggregator: mean", "aggregator: secure_sum", 1)
    file.write_text(secure.replace("client_weighting: examples", "client_weighting: uniform", 1), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"roster\.yaml is missing"):
        roster_of(file, tmp_path / "roster.yaml")
