"""A federation continues without a lost site, with the bits of a simulation that has the same dropouts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Dropout, Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.federation.messages import Answer, Pass, pack, unpack_question
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.dropouts import SiteDropouts
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training_key import name_of, training_key
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.sites import Sites, small
from tests.fedpipe.training import first_weights, same_bits, train, train_settings

STATEFUL = {"algorithm": "scaffold", "compressor": "top_k"}  # clients keep both files' state
SEVERAL_PASSES = {"algorithm": "mime"}


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


def settings_of(**changes: Any) -> Train:
    changes = {"rounds": 5, "clients_per_round": 9, "evaluate_every": 0, "keep_best": False} | changes
    return train_settings(**TRAINING | {changes.get("algorithm", "fed_avg"): {}} | changes)


def trained(
    sites: Sites, settings: Train, shards: Path, worker: Worker, folder: Path, quorum: int | None = None
) -> Trained:
    """A training that is saved after each round: over the sites, or a simulation over pooled ``shards``."""
    key = training_key(settings, Manifest.read(shards), first_weights(settings, (8, 8, 1)), None)
    settings = settings.model_copy(update={"checkpoint": settings.checkpoint.model_copy(update={"seconds": 0.0})})
    if shards == sites.pooled:
        with Checkpoints(folder, key, settings) as checkpoints:
            return train(settings, shards, worker, folder, checkpoints=checkpoints)
    with (
        sites.training(settings, name_of(key), quorum=quorum) as federation,
        Checkpoints(folder, key, settings, federation.states) as checkpoints,
    ):
        return train(settings, shards, worker, folder, checkpoints=checkpoints, elsewhere=federation)


def losing(sites: Sites, losses: dict[int, str], returns: dict[int, str]) -> None:
    """Ends sites before they answer the n-th question for sums, counted from 1, and starts them again so."""
    count = 0

    def before(name: str, question: bytes) -> None:
        nonlocal count
        if not isinstance(unpack_question(question).message, Pass):
            return
        count += 1
        if losses.get(count) == name:
            sites.stop(name)
        if (again := returns.get(count)) is not None and again not in sites.running:
            sites.start(again)

    sites.before = before


def require_same_as_simulated(sites: Sites, worker: Worker, folder: Path, settings: Train, federated: Trained) -> None:
    """The simulation with the dropouts of ``federated`` has its weights, its records, and its list of dropouts."""
    listed = federated.summary()["dropouts"]
    simulated = trained(sites, settings_again(settings, listed), sites.pooled, worker, folder / "here")
    assert same_bits(simulated.weights, federated.weights) and repr(simulated.records) == repr(federated.records)
    assert simulated.summary()["dropouts"] == listed


def settings_again(settings: Train, dropouts: list[dict[str, int]]) -> Train:
    return type(settings).model_validate(settings.model_dump() | {"dropouts": dropouts})


@pytest.fixture(autouse=True)
def all_sites(sites: Sites) -> Iterator[None]:
    yield
    sites.before = lambda site, question: None
    sites.start(*({"site-1", "site-2", "site-3"} - set(sites.running)))


@pytest.mark.slow
def test_goes_on_without_a_site_and_with_it_when_it_is_back(
    worker: Worker, sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the site's clients keep is as it was before the round in which it was lost."""
    settings = settings_of(**STATEFUL)
    # A round has three questions, and two without the site.
    losing(sites, losses={5: "site-2"}, returns={8: "site-2"})
    federated = trained(sites, settings, sites.coordinator, worker, tmp_path / "there", quorum=2)
    assert federated.summary()["dropouts"] == [{"round": 2, "site": 2}, {"round": 3, "site": 2}]
    output = capsys.readouterr().err
    assert "round 2: site-2 was not connected for 5 s; continues with site-1, site-3" in output
    assert "site-2: back" in output
    require_same_as_simulated(sites, worker, tmp_path, settings, federated)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, SEVERAL_PASSES, {"aggregator": "clipped_mean", "clipped_mean": {"norm": 0.45}}]
)
def test_a_site_may_be_lost_in_any_pass(worker: Worker, sites: Sites, tmp_path: Path, changes: dict[str, Any]) -> None:
    """With a second pass, the site is in the sum of the first one."""
    settings = settings_of(**changes)
    two = changes.get("algorithm") == "mime"
    losing(sites, losses={11 if two else 6: "site-2" if two else "site-3"}, returns={})
    federated = trained(sites, settings, sites.coordinator, worker, tmp_path / "there", quorum=2)
    first = {"round": 2, "site": 2, "from_pass": 2} if two else {"round": 2, "site": 3}
    assert federated.summary()["dropouts"][0] == first
    require_same_as_simulated(sites, worker, tmp_path, settings, federated)


@pytest.mark.slow
def test_stops_where_too_few_sites_are_left_and_resumes_with_its_dropouts(
    worker: Worker, sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The coordinator starts again while a site is away, and its clients' files are as they were when it is back."""
    settings = settings_of(**STATEFUL)
    losing(sites, losses={5: "site-2", 10: "site-3"}, returns={})
    with pytest.raises(WorkersLostError, match=r"site-3 was not .*: 1 of 3 sites are left, and 'quorum' .* is 2$"):
        trained(sites, settings, sites.coordinator, worker, tmp_path / "there", quorum=2)
    sites.start("site-3")
    losing(sites, losses={}, returns={2: "site-2"})
    federated = trained(sites, settings, sites.coordinator, worker, tmp_path / "there", quorum=2)
    output = capsys.readouterr().err
    assert "resumes at round 4 of 5" in output and "2 sites take part: site-1, site-3" in output
    assert federated.summary()["dropouts"] == [{"round": number, "site": 2} for number in (2, 3, 4)]
    require_same_as_simulated(sites, worker, tmp_path, settings, federated)


def test_a_site_whose_bytes_are_no_answer_is_lost(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a quorum it stops the training; a refusal does so always."""
    monkeypatch.setattr(sites.running["site-2"], "answer", lambda question: b"garbage")
    with sites.training(settings_of(), quorum=2) as federation:
        assert federation.members.present == ["site-1", "site-3"]
    with pytest.raises(PipelineError, match=r"^site-2: "), sites.training(settings_of()):
        pass
    refusal = pack(Answer(refused=["its policy wants 5 clients"]))
    monkeypatch.setattr(sites.running["site-2"], "answer", lambda question: refusal)
    with (
        pytest.raises(PipelineError, match=r"not all sites answer\. site-2: its policy wants 5 clients"),
        sites.training(settings_of(), quorum=2),
    ):
        pass


def test_what_does_not_bear_a_lost_site_is_refused_by_name(sites: Sites) -> None:
    dropout = {"round": 1, "site": 3}
    refusals: dict[str, dict[str, Any]] = {
        r"lets a site drop out .* 'train.algorithm' fed_buff": {"algorithm": "fed_buff"},
        r"lets a site drop out .* 'train.cohort' power_of_choice": {"cohort": "power_of_choice"},
    }
    for sentence, changes in refusals.items():
        settings = settings_of().model_copy(update=changes)
        with (
            pytest.raises(PipelineError, match=rf"federation.yaml: 'quorum' {sentence}"),
            sites.training(settings, quorum=2),
        ):
            pass
        with pytest.raises(PipelineError, match=rf"params.yaml: 'train.dropouts' {sentence}"):
            SiteDropouts(settings.model_copy(update={"dropouts": [Dropout(**dropout)]}), Manifest.read(sites.pooled), 1)
    with (
        pytest.raises(PipelineError, match="'quorum' is 4, and there are 3 sites"),
        sites.training(settings_of(), quorum=4),
    ):
        pass
    for listed, sentence in ({"site": 4}, "lists site 4, and there are 3"), ({"from_pass": 2}, "has 1"):
        settings = settings_again(settings_of(), [dropout | listed])
        with pytest.raises(PipelineError, match=sentence):
            SiteDropouts(settings, Manifest.read(sites.pooled), 1)
    with pytest.raises(PipelineError, match=r"the clients have none: set 'partition.sites'"):
        SiteDropouts(settings_again(settings_of(), [dropout]), Manifest.read(sites.place("site-1").shards), 1)
