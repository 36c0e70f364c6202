"""What models are measured on where samples are at sites."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe import params
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.networks.weights import save_weights
from operations.promote.decision import Candidate, Contender
from operations.promote.measure import Benchmark
from operations.promote.measuring_sites import MeasuringSites
from operations.promote.rules import Measured, judge
from tests import RECIPE
from tests.fedpipe.federation.sites import NAMES, OPEN, SAMPLES, Sites, small
from tests.fedpipe.training import model_of, train_settings
from tests.registry_workspace import write_raw

HELD_OUT = [2, 3, 1, 1, 2, 2, 1, 3, 4, 1, 2, 2]  # of each client


@pytest.fixture
def workspace(
    training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A coordinator with test images and sites of a policy."""
    images, labels = training_set
    images = images[:400, 2:26:3, 2:26:3].copy()
    running: list[Sites] = []

    def make(**policy: Any) -> tuple[Sites, Benchmark]:
        sites = Sites(tmp_path / "sites", *small(training_set), **{**OPEN, **policy})
        held_out = slice(sum(SAMPLES), sum(SAMPLES) + sum(HELD_OUT))
        sites.hold_out(images[held_out], labels[held_out], HELD_OUT)
        write_raw(tmp_path / "data/raw", (images[:50], labels[:50]), (images[200:], labels[200:400]), "small")
        (tmp_path / "data/clients").symlink_to(sites.coordinator)
        (tmp_path / "data/client_tests").mkdir()
        write_shards(tmp_path / "data/client_tests", "small", images[:0], labels[:0], [], 10)
        sites.start()
        running.append(sites)
        monkeypatch.chdir(tmp_path)
        benchmark = Benchmark.read(100)
        return sites, replace(benchmark, sites=MeasuringSites(sites, benchmark.manifest))

    yield make
    for sites in running:
        sites.stop()


def candidates(folder: Path) -> list[Candidate]:
    """Two models."""
    model, made = model_of(train_settings(model="logistic_regression"), (8, 8, 1)), []
    for seed in (1, 2):
        file = folder / f"{seed}.safetensors"
        save_weights(file, model, model.first_weights(np.random.default_rng(seed)))
        made.append(Candidate("fedpipe-small", str(seed) * 64, None, lambda file=file: file))  # type: ignore[misc]
    return made


def test_the_worst_client_is_judged_where_all_sites_tell_of_clients(workspace: Any, tmp_path: Path) -> None:
    sites, benchmark = workspace()
    ours, theirs = (benchmark.measure(each) for each in candidates(tmp_path))
    model = model_of(train_settings(model="logistic_regression"), (8, 8, 1))
    weights = model.first_weights(np.random.default_rng(1))
    table = accuracy_per_client(model, weights, sites.folder / "pooled_tests", 12, 100)
    assert ours.worst_client == table["accuracy"].min() and ours.clients_on == "its own test samples"
    images, labels = RawDataset.read(Path("data/raw")).read_test(Path("data/raw"))
    assert ours.accuracy == (model.classifier(weights)(images).argmax(axis=1) == labels).mean()
    rules = judge(params.load(params.Promote, RECIPE / "params.yaml"), ours, theirs)
    assert [rule.name for rule in rules] == ["accuracy", "worst_client", "mcnemar"]


def test_the_worst_site_is_judged_where_sites_tell_sums_only(workspace: Any, tmp_path: Path) -> None:
    _, benchmark = workspace(client_losses=False)
    challenger, champion = candidates(tmp_path)
    ours, theirs = benchmark.measure(challenger), benchmark.measure(champion)
    assert ours.worst_client is None and list(ours.sites) == NAMES
    rules = judge(params.load(params.Promote, RECIPE / "params.yaml"), ours, theirs)
    assert [rule.name for rule in rules] == ["accuracy", "worst_site", "mcnemar"]
    assert Contender.of(challenger, ours).worst_site == min(ours.sites.values())
    assert benchmark.sites is not None and benchmark.sites.notes() == []


def test_sites_that_tell_nothing_have_no_part_and_are_named(workspace: Any, tmp_path: Path) -> None:
    _, benchmark = workspace(client_losses=False, held_out_counts=False)
    ours, theirs = (benchmark.measure(each) for each in candidates(tmp_path))
    rules = judge(params.load(params.Promote, RECIPE / "params.yaml"), ours, theirs)
    assert [rule.name for rule in rules] == ["accuracy", "mcnemar"]
    assert benchmark.sites is not None
    assert benchmark.sites.notes()[0] == "not measured at site-1: its policy tells nothing of held-out samples"
    with pytest.raises(PipelineError, match=r"federation.yaml is missing"), Benchmark.opened(100):
        pass


def test_the_worst_site_fails_beyond_the_margin() -> None:
    settings = params.load(params.Promote, RECIPE / "params.yaml").model_copy(update={"worst_client_margin": 0.02})

    def worst_site(ours: dict[str, float], theirs: dict[str, float]) -> list[bool]:
        right = np.array([True, False])
        measured = [Measured(right, None, "none", accuracies) for accuracies in (ours, theirs)]
        return [rule.holds for rule in judge(settings, *measured) if rule.name == "worst_site"]

    assert worst_site({"a": 0.9, "b": 0.78}, {"a": 0.8, "b": 0.9}) == [True]
    assert worst_site({"a": 0.9, "b": 0.77}, {"a": 0.8, "b": 0.9}) == [False]
    assert worst_site({"a": 0.9}, {"a": 0.8, "b": 0.9}) == []  # not the same sites
