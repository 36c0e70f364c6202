"""Sites measure models on held-out samples: the figures of the simulation, and no more than a policy allows."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.held_out import by_site, section
from fedpipe.federation.measuring import AtSites, ask_sites
from fedpipe.federation.messages import Measure, pack, unpack_answer, unpack_question
from fedpipe.networks.network import Network, Weights
from tests.fedpipe.federation.sites import HELD_OUT, NAMES, OPEN, Sites, with_held_out
from tests.fedpipe.training import model_of, train_settings

BATCH = 3  # so that a site has several batches, and none ends where a site does
Start = Callable[..., AbstractContextManager[Sites]]


@pytest.fixture(scope="module")
def start(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Sites with a policy."""
    return lambda **policy: with_held_out(tmp_path_factory.mktemp("measured"), training_set, **{**OPEN, **policy})


@pytest.fixture(scope="module")
def model() -> tuple[Network, Weights]:
    network = model_of(train_settings(model="mcmahan_2nn"), (8, 8, 1))
    return network, network.first_weights(np.random.default_rng(3))


def ask(sites: Sites, model: tuple[Network, Weights]) -> AtSites:
    return ask_sites(sites, Manifest.read(sites.coordinator), *model, BATCH)


def test_the_figures_are_those_of_the_simulation_to_the_bit(start: Start, model: tuple[Network, Weights]) -> None:
    network, weights = model
    with start() as sites:
        of_sites = ask(sites, model)
        pooled, tests = sites.pooled, sites.folder / "pooled_tests"
    clients = Manifest.read(pooled)
    simulated = section(by_site(network, weights, tests, clients, BATCH))
    figures = of_sites.figures()
    train, test = (accuracy_per_client(network, weights, each, 12, BATCH) for each in (pooled, tests))
    assert figures["test"] == {"clients": {"samples": 23, **spread(test["accuracy"].to_numpy())}} | simulated
    assert figures["train"] == {"clients": spread(train["accuracy"].to_numpy())}
    assert list(simulated["sites"]) == NAMES and simulated["held_out"]["samples"] == sum(HELD_OUT)
    expected = train.add_prefix("train_").rename(columns={"train_client": "client"})
    expected = expected.assign(test_samples=test["samples"], test_accuracy=test["accuracy"])
    assert of_sites.clients.to_csv() == expected.to_csv() and not of_sites.sentence()


@pytest.mark.parametrize("policy", [{"client_losses": False}, {"counts": "withheld"}, {"counts": "rounded"}])
def test_nothing_is_told_of_single_clients_unless_the_policy_allows_it(
    start: Start, model: tuple[Network, Weights], policy: dict[str, Any]
) -> None:
    with start(**policy) as sites:
        of_sites = ask(sites, model)
        question = next(content for _, content in sites.questions)
        assert not unpack_answer(sites.running["site-1"].answer(question)).arrays
    figures = of_sites.figures()
    assert figures["train"] == {} and set(figures["test"]) == {"held_out", "sites"}
    assert of_sites.clients["train_samples"].isna().all() and len(of_sites.clients) == 12


def test_a_policy_withholds_sums_over_few_and_says_why(start: Start, model: tuple[Network, Weights]) -> None:
    with start(least_clients=3) as sites:  # of the three clients of site-1, two have held-out samples
        of_sites = ask(sites, model)
    assert of_sites.sums["site-1"] is None and list(of_sites.figures()["test"]["sites"]) == ["site-2", "site-3"]
    assert of_sites.sentence().startswith("site-1: its policy wants 3 clients and 1 samples in a sum at least")
    with start(held_out_counts=False) as sites:
        of_sites = ask(sites, model)
    assert not any(of_sites.sums.values()) and "site-3: its policy tells nothing of held-out" in of_sites.sentence()


def test_a_site_measures_no_other_model_no_other_shards_and_no_more_than_its_rounds(
    start: Start, model: tuple[Network, Weights]
) -> None:
    network, weights = model
    other = model_of(train_settings(model="logistic_regression"), (8, 8, 1))
    with start(models=["mcmahan_2nn"], rounds=2) as sites:
        site = sites.running["site-1"]

        def answered(**changes: Any) -> Any:
            fields = {"spec": network.spec.to_json(), "batch_size": BATCH, "digest": digest} | changes
            return unpack_answer(site.answer(pack(Measure(**fields), fields.pop("arrays", weights)))).message

        def refused(**changes: Any) -> str:
            return "; ".join(getattr(answered(**changes), "refused", []))

        manifest = Manifest.read(sites.coordinator)
        digest = (manifest.sites or ())[0].digest
        with pytest.raises(PipelineError, match=r"site-1: its policy does not allow the model logistic_regression"):
            ask_sites(sites, manifest, other, other.first_weights(np.random.default_rng(3)), BATCH)
        wide = network.spec.to_json() | {"image_shape": [9, 9, 1]}
        assert "the model takes other samples" in refused(spec=wide)
        assert "others than the coordinator knows" in refused(digest="a" * 64)
        for _ in range(2):  # a question that is repeated counts once
            assert not refused()
        assert not refused(batch_size=2)
        figures = answered(batch_size=4)
        assert (figures.held_out, figures.because) == (None, "its policy allows 2 rounds in all")
        questions = [unpack_question(content).message.kind for _, content in sites.questions]
    assert questions[0] == "measure"


def test_held_out_samples_of_another_partition_are_refused(
    start: Start, model: tuple[Network, Weights], tmp_path: Path
) -> None:
    with start() as sites:
        tests = sites.place("site-2").tests
        assert tests is not None
        tests.rename(tmp_path / "away")
        (sites.place("site-1").tests or tmp_path).rename(tests)
        with pytest.raises(PipelineError, match=r"site-2: its held-out samples are not of its shards, or damaged"):
            ask(sites, model)


def test_lost_sites_are_left_out_where_a_quorum_is_left(start: Start, model: tuple[Network, Weights]) -> None:
    with start() as sites:
        manifest, before = Manifest.read(sites.coordinator), ask(sites, model)
        sites.stop("site-2")
        of_sites = ask_sites(sites, manifest, *model, BATCH, quorum=2)
        for quorum in (None, 3):
            with pytest.raises(PipelineError, match=r"site-2 was not connected"):
                ask_sites(sites, manifest, *model, BATCH, quorum)
    assert of_sites.sentence() == "site-2: it is lost" and of_sites.clients["train_samples"].isna().all()
    assert {site: before.sums[site] for site in ("site-1", "site-3")} | {"site-2": None} == of_sites.sums
