"""Sites that round or withhold how many samples their clients have: what is left to see, and the same bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest, read_index
from fedpipe.errors import PipelineError
from fedpipe.federation.answers import described
from fedpipe.federation.counts import could_be, reported
from fedpipe.federation.messages import pack
from fedpipe.federation.site_key import SiteKey
from fedpipe.partitioning import site_report
from fedpipe.runtime.facts import FEDERATION, facts
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.secure_rounds import refusal
from tests.fedpipe.federation.sites import CLIENTS, NAMES, OPEN, SAMPLES, Sites, small
from tests.fedpipe.training import same_bits, train, train_settings

SIZES = np.array(SAMPLES)


@pytest.fixture(scope="module")
def withheld(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    sites = Sites(tmp_path_factory.mktemp("withheld"), *small(training_set), **{**OPEN, "counts": "withheld"})
    sites.start()
    yield sites
    sites.stop()


def settings(**changes: Any) -> Train:
    fixed = {"rounds": 3, "clients_per_round": 7, "evaluate_every": 0, "keep_best": False}
    return train_settings(**TRAINING | {"algorithm": "scaffold"} | fixed | changes)


def test_rounded_numbers_are_multiples_of_ten_and_no_client_is_empty() -> None:
    sizes = np.array([0, 1, 10, 11, 345])
    assert reported(sizes, "exact").tolist() == sizes.tolist()
    assert reported(sizes, "rounded").tolist() == [10, 10, 10, 20, 350]
    assert reported(sizes, "withheld").tolist() == [-1] * 5
    for counts, wrong in (("exact", -1), ("rounded", 345), ("rounded", 0), ("withheld", 10)):
        assert not could_be(np.array([wrong]), counts)  # type: ignore[arg-type]


@pytest.mark.slow
def test_scaffold_weights_clients_by_a_sum_over_each_site(worker: Worker, withheld: Sites, tmp_path: Path) -> None:
    """Its server divides by the weights of all clients, which the coordinator cannot add up from withheld numbers."""
    here = train(settings(), withheld.pooled, worker, tmp_path / "here")
    with withheld.training(settings()) as federation:
        assert federation.all_weights == SIZES.sum()
        remote = train(settings(), withheld.coordinator, worker, tmp_path / "there", elsewhere=federation)
    assert same_bits(here.weights, remote.weights) and repr(here.records) == repr(remote.records)


def test_sums_of_weights_are_for_trainings_that_need_them_and_for_one_choice_of_clients(withheld: Sites) -> None:
    """Else their differences would tell the number of samples of each client."""
    with withheld.training(settings()) as federation:
        join = federation.members.join_question("site-1")
    site = withheld.running["site-1"]

    def refused(**changes: Any) -> str:
        other = settings(**changes)
        fields = {"settings": used(other), "facts": facts(other, FEDERATION)}
        return refusal(site.answer(pack(join.model_copy(update=fields))))

    assert not refused() and not refused(local_epochs=2)
    assert "needs no sum of its clients' weights" in refused(algorithm="fed_avg")
    assert "answered the same message over other clients" in refused(last_batch="drop", batch_size=4)


def test_nothing_at_the_coordinator_says_how_many_samples_a_client_has(withheld: Sites) -> None:
    descriptions, shards = described(withheld, NAMES)
    assert {each.counts for each in descriptions} == {"withheld"}
    assert all((own.samples == -1).all() for own in shards)
    assert Manifest.read(withheld.coordinator).samples == 0
    assert (read_index(withheld.coordinator)["samples"] == -1).all()
    table = site_report.table(shards)
    assert table["samples"].isna().all() and len(table) == 12
    figures = site_report.figures(table)
    clients = dict(zip(NAMES, CLIENTS, strict=True))
    assert figures == {"clients": 12, "sites": {name: {"clients": own} for name, own in clients.items()}}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("'train.cohort' by_size", {"cohort": "by_size", "clients_per_round": 4}),
        ("'train.algorithm' fed_buff", {"algorithm": "fed_buff", "clients_per_round": "all", "fed_buff": {}}),
        ("'train.availability.report_goal'", {"availability": {"report_goal": 3}}),
    ],
)
def test_a_training_that_needs_exact_numbers_is_refused_before_a_site_is_asked(
    withheld: Sites, key: str, changes: dict[str, Any]
) -> None:
    before = len(withheld.questions)
    devices = {"devices": {"seconds_per_sample": 1.0}}
    changes = changes | {"availability": changes.get("availability", {}) | devices}
    sentence = rf"{key}.* 'train.availability.devices.seconds_per_sample' decide who .*site-1 \(withheld\)"
    with pytest.raises(PipelineError, match=sentence), withheld.training(settings(**changes)):
        pass
    assert len(withheld.questions) == before


def test_a_digest_that_leaves_a_site_cannot_be_made_from_its_samples(withheld: Sites, tmp_path: Path) -> None:
    """Whoever guesses all samples computes the digest of the shards, and not the one with the site's key."""
    for name, site in zip(NAMES, Manifest.read(withheld.coordinator).sites or (), strict=True):
        plain = Manifest.read(withheld.place(name).shards).digest
        key = SiteKey.of_digests(withheld.place(name).logs)
        assert site.digest == key.digest("shards", plain.encode()) != plain
        assert SiteKey.of_digests(tmp_path / name).digest("shards", plain.encode()) != site.digest
        assert (withheld.place(name).logs / "digest.key").stat().st_mode & 0o077 == 0
    (tmp_path / "site-1/digest.key").write_bytes(b"short")
    with pytest.raises(PipelineError, match=r"digest.key is damaged"):
        SiteKey.of_digests(tmp_path / "site-1")
