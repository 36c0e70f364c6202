"""Secure sums over the link: the bits of the simulation, nothing of one site, and what a coordinator may try."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.federation import secure_sums
from fedpipe.federation.coordinator import Federation
from fedpipe.federation.messages import pack, unpack_question
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.federation.secure_site import model_digest
from fedpipe.federation.secure_sums import SecureSums
from fedpipe.runtime.secure_rounds import require_enough_sites
from fedpipe.runtime.training import prepare
from fedpipe.runtime.worker import Worker
from fedpipe.secure_aggregation.coordinator_messages import Agreements, AllKeys, Begin, Delivery, Survivors
from fedpipe.secure_aggregation.keys import public
from fedpipe.secure_aggregation.message import kind_of
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.secure_rounds import Rounds, refusal, step_of, with_step
from tests.fedpipe.federation.sites import NAMES, Sites, small
from tests.fedpipe.federation.test_bits import SEVEN, require_same_bits
from tests.fedpipe.training import run, same_bits, train_settings

UNIFORM: dict[str, Any] = {"aggregator": "secure_sum", "client_weighting": "uniform"}
BY_EXAMPLES: dict[str, Any] = {"aggregator": "secure_sum", "secure_sum": {"most_examples": 10}}
OTHERS: dict[str, dict[str, Any]] = {
    "uniform": UNIFORM,
    "fed_prox": BY_EXAMPLES | {"algorithm": "fed_prox"},
    "ditto, whose clients keep state": BY_EXAMPLES | {"algorithm": "ditto", "ditto": {}},
    "integers of 62 bits": UNIFORM | {"secure_sum": {"bits": 62}},
    "stochastic rounding": UNIFORM | {"secure_sum": {"rounding": "stochastic"}},
}


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The coordinator's; tests that have it share a training, whose graphs the sites build once."""
    return tmp_path_factory.mktemp("coordinator") / "secure-sums"


@pytest.fixture(scope="module")
def rounds(sites: Sites, journals: Path) -> Rounds:
    return Rounds(sites, settings_of(**BY_EXAMPLES), journals)


def settings_of(**changes: Any) -> Train:
    return train_settings(**TRAINING | changes)


def test_weights_by_examples_and_all_measurements_go_through_the_sum(
    worker: Worker, sites: Sites, journals: Path
) -> None:
    """Five steps per site and round, and no plain question; the bits and the figures of the simulation."""
    chosen, cohorts, before = settings_of(**BY_EXAMPLES), [range(12), SEVEN], len(sites.questions)
    here = run(worker, chosen, sites.pooled, cohorts)
    with sites.training(chosen, journals=journals) as federation:
        remote = run(worker, chosen, sites.coordinator, cohorts, elsewhere=federation)
    assert same_bits(remote.weights, here.weights) and same_bits(remote.state, here.state)
    assert repr(remote.rounds) == repr(here.rounds) and here.rounds[0]["examples"] == 68
    questions = [(name, unpack_question(content).message.kind) for name, content in sites.questions[before:]]
    assert [name for name, kind in questions if kind == "secure"] == NAMES * 10
    assert {kind for _, kind in questions} == {"join", "ready", "secure"}


def test_a_plain_question_is_refused_and_no_plain_sum_is_in_an_answer(sites: Sites, rounds: Rounds) -> None:
    answers: dict[str, list[bytes]] = {name: [] for name in NAMES}

    def note(name: str, question: bytes) -> bytes:
        answers[name].append(sites.running[name].answer(question))  # the same question again gets the same answer
        return question

    number, sites.changed = next(rounds.numbers), note
    total = rounds.total(number)
    sites.changed = lambda site, question: question
    assert total.sites == NAMES and [len(own) for own in answers.values()] == [5, 5, 5]
    plain = rounds.fixed_point.zero()
    for name, part in rounds.parts().items():
        question = part.question.as_pass()
        arrays = [*rounds.leaves(number), *part.requests]
        assert "its sums in this training leave in a secure sum only" in refusal(
            sites.running[name].answer(pack(question, arrays))
        )
        training = sites.running[name]._training
        assert training is not None
        own = rounds.fixed_point.vector(training.sums(question, rounds.leaves(number), part.requests, ""))
        plain.add(own)
        for answer in answers[name]:
            assert own.weights.tobytes()[:400] not in answer and own.quantities.tobytes()[:16] not in answer
    assert same_bits(*map(without_seconds, (rounds.fixed_point.leaves(plain, 3), total.leaves)))


def without_seconds(leaves: list[np.ndarray]) -> list[np.ndarray]:
    """What is the same in each run."""
    return [leaf for leaf in leaves if leaf.dtype != np.float64]


def test_attacks_of_a_coordinator_are_refused(sites: Sites, rounds: Rounds) -> None:
    def substituted(message: AllKeys) -> AllKeys:
        other = replace(message.keys[1], mask_key=public(bytes(range(32))))
        return replace(message, keys=(message.keys[0], other, message.keys[2]))

    attacks: list[tuple[type[Any], Any, str]] = [
        (AllKeys, substituted, "site-1: site 2 did not sign this"),
        (AllKeys, lambda m: replace(m, keys=m.keys[:2]), "site-1: 2 sites sent keys, and a sum has at least 3"),
        (Delivery, lambda m: replace(m, letters=m.letters[::-1]), "site-1: sites are not in ascending order"),
        (Survivors, lambda m: replace(m, sites=(1, 2)), "site-1: 2 vectors came, and a sum has at least 3"),
        (Agreements, lambda m: replace(m, agreements=m.agreements[:1]), "site-1: 1 sites signed the survivors"),
        (Begin, lambda m: replace(m, training=bytes(32)), "the coordinator has another setting than this site"),
        (Begin, lambda m: replace(m, model=bytes(32)), "the coordinator has another setting than this site"),
    ]
    for kind, change, sentence in attacks:
        with rounds.changing(kind, "site-1", change), pytest.raises(WorkersLostError, match=sentence):
            rounds.total()


def test_a_site_that_was_asked_to_train_otherwise_is_in_no_sum(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """With next to no learning rate at all other sites, the sum would be the update of one."""
    monkeypatch.setattr(rounds.secure, "_shared", bytes(32))  # of other settings than the sites got
    with pytest.raises(WorkersLostError, match="the coordinator has another setting than this site"):
        rounds.total()


def test_another_model_for_a_site_is_refused(sites: Sites, rounds: Rounds) -> None:
    """With its own digest, or with that of the others."""

    def other_model(site: str, content: bytes) -> bytes:
        question, arrays = unpack_question(content)
        if site == "site-3" and question.kind == "secure" and question.chunks:
            arrays[1] = arrays[1] + np.float32(1)
        return pack(question, arrays)

    sites.changed = other_model
    with pytest.raises(WorkersLostError, match="site-3: the coordinator names another model than it has sent"):
        rounds.total()
    sites.changed = lambda site, question: question
    number, digest = next(rounds.numbers), hashlib.sha256(b"another").digest()
    setting = rounds.secure.roster.setting(rounds.secure.run, rounds.secure._shared, rounds.fixed_point)
    with (
        rounds.changing(Begin, "site-3", lambda message: Begin.of(setting, number, message.attempt, digest)),
        pytest.raises(WorkersLostError, match="site-3: the coordinator names another model than it has sent"),
    ):
        rounds.total(number)


def test_steps_of_a_former_round_and_other_bytes_for_a_step_are_refused(sites: Sites, rounds: Rounds) -> None:
    first, before = rounds.total(), len(sites.questions)
    former = {kind_of(step): content for content in own(sites, before - 15) if (step := step_of(content)) is not None}
    site = sites.running["site-1"]
    assert not refusal(site.answer(former[Agreements.KIND]))  # the answer that was lost
    assert "was begun before" in refusal(site.answer(former[Begin.KIND]))
    for kind in (AllKeys.KIND, Delivery.KIND, Survivors.KIND):
        assert "is out of turn" in refusal(site.answer(former[kind]))
    second = rounds.total()
    assert [name for name, _ in sites.questions[-15:]] == NAMES * 5 and first.sites == second.sites
    assert "is out of turn" in refusal(site.answer(former[Agreements.KIND]))

    def twice(site: str, content: bytes) -> bytes:
        step = step_of(content)
        if step is not None and kind_of(step) == AllKeys.KIND and site == "site-2":
            refused.append(refusal(sites.running[site].answer(content)))
            altered = replace(AllKeys.decode(step), keys=AllKeys.decode(step).keys[:2])
            refused.append(refusal(sites.running[site].answer(with_step(content, altered.encode()))))
        return content

    refused: list[str] = []
    sites.changed = twice
    rounds.total()
    sites.changed = lambda site, question: question
    assert refused[0] == "" and "step share was answered before, to another message" in refused[1]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_bytes_of_a_step_are_refused(sites: Sites, rounds: Rounds, data: st.DataObject) -> None:
    """Random ones, and those of a real step with some of them changed; the site stays, and the next sum is right."""
    part = rounds.parts()["site-2"]
    real = [step for content in own(sites, 0, "site-2") if (step := step_of(content)) is not None][-1]
    changed = bytearray(real)
    for place in data.draw(st.lists(st.integers(0, len(real) - 1), min_size=1, max_size=4, unique=True)):
        changed[place] ^= data.draw(st.integers(1, 255))
    for step in (data.draw(st.binary(max_size=200)), bytes(changed), real + b"x", real[:-1]):
        reason = refusal(sites.running["site-2"].answer(part.short(step)))
        assert reason and "it failed" not in reason


def own(sites: Sites, since: int, site: str = "site-1") -> list[bytes]:
    """What a site was asked."""
    return [content for name, content in sites.questions[since:] if name == site]


def test_a_coordinator_that_is_killed_asks_the_same_and_a_site_that_lost_its_attempt_begins_again(
    sites: Sites, rounds: Rounds, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the sum of a round that is over is read from the disk."""
    for kind in (Begin, AllKeys, Delivery, Survivors, Agreements):
        number, before = next(rounds.numbers), len(sites.questions)

        def die(site: str, content: bytes, kind: Any = kind) -> None:
            step = step_of(content)
            if site == "site-2" and step is not None and kind_of(step) == kind.KIND:
                raise KeyboardInterrupt

        sites.before = die
        with pytest.raises(KeyboardInterrupt):
            rounds.total(number)
        sites.before = lambda site, question: None
        rounds.restart()
        assert rounds.total(number).sites == NAMES
        steps = {(name, step) for name, content in sites.questions[before:] if (step := step_of(content)) is not None}
        assert len(steps) == 15  # each was asked once or again, and never anew
    questions, total = len(sites.questions), rounds.total(number)
    assert len(sites.questions) == questions and total.sites == NAMES

    def begins_another(site: str, content: bytes) -> bytes:
        step = step_of(content)
        if step is not None and kind_of(step) == Delivery.KIND and site == "site-3" and not began:
            at = next(rounds.numbers)
            leaves = rounds.leaves(at)
            setting = rounds.secure.roster.setting(rounds.secure.run, rounds.secure._shared, rounds.fixed_point)
            begin = Begin.of(setting, at, 0, model_digest(leaves)).encode()
            began.append(refusal(sites.running[site].answer(rounds.parts()[site].packed(begin, leaves))))
        return content

    began: list[str] = []
    sites.changed = begins_another
    assert rounds.total().sites == NAMES and began == [""]
    sites.changed = lambda site, question: question
    assert "begins the sum again" in capsys.readouterr().err


def test_a_round_whose_sum_was_removed_has_it_again_when_a_training_begins_before_it(
    sites: Sites, rounds: Rounds, capsys: pytest.CaptureFixture[str]
) -> None:
    """For instance without its checkpoints; also with a site that is away when it begins."""
    number = next(rounds.numbers)
    first, run = rounds.summed_in_a_training(number), rounds.secure.run
    rounds.secure.release(number)
    rounds.restart()
    assert (rounds.secure.run, rounds.secure.released) == (run, number)
    rounds.federation.members.lost, away = {"site-2"}, sites.running.pop("site-2")
    with pytest.raises(WorkersLostError, match="2 sites that are not lost have clients in it"):
        rounds.summed_in_a_training(number)
    sites.running["site-2"] = away  # which has joined the sums of the former name
    again = rounds.summed_in_a_training(number)
    assert same_bits(*map(without_seconds, (first, again))) and rounds.secure.run != run
    assert capsys.readouterr().err.count(f"round {number} is run again") == 1


def test_sums_that_were_being_removed_when_the_coordinator_was_killed_get_another_name(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was removed, no round is asked for under the former name again."""
    for place, removes in (Path, "unlink"), (secure_sums.shutil, "rmtree"):
        sums = SecureSums(sites.roster, tmp_path / removes)
        (tmp_path / removes / "round-000001-attempt-0").touch()
        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
            killed.setattr(place, removes, die)
            sums.end()
        again = SecureSums(sites.roster, tmp_path / removes)
        assert again.run != sums.run or again.released > 1000
        again.renew()
        assert again.run != sums.run and again.released == 0
        assert [file.name for file in (tmp_path / removes).iterdir()] == ["run"]
    (tmp_path / removes / "released").write_text("ten")
    with pytest.raises(PipelineError, match="released is damaged: remove"):
        SecureSums(sites.roster, tmp_path / removes)


def die(*_: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_too_few_sites_and_another_roster_are_refused(
    sites: Sites, rounds: Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkersLostError, match="2 sites that are not lost have clients in it, and 3 are needed: start"):
        rounds.total(None, "site-1", "site-3")
    monkeypatch.setattr(sites.running["site-2"]._secure, "_least_sites", 4)
    with pytest.raises(WorkersLostError, match="site-2: its policy wants 4 sites in a sum at least"):
        rounds.total()
    roster = sites.roster
    keys = {name: key.hex() for name, key in zip(roster.names, roster.roster.identities, strict=True)}
    sites.roster = PinnedRoster.of(keys, colluding=1)
    with pytest.raises(PipelineError, match="site-1: its roster is not the coordinator's"):
        rounds.restart()
    sites.roster = roster
    with pytest.raises(PipelineError, match="needs a roster of its sites"):
        Federation(sites, Manifest.read(sites.coordinator), rounds.settings, "0" * 16)
    with pytest.raises(PipelineError, match=r"roster\.yaml is missing: 'train.aggregator' secure_sum in a federation"):
        SecureSums.of(rounds.settings, tmp_path / "roster.yaml", tmp_path / "sums")


def test_rounds_with_clients_of_too_few_sites_are_named_before_the_first_one(sites: Sites, tmp_path: Path) -> None:
    few = settings_of(**UNIFORM, clients_per_round=4, rounds=50)
    with pytest.raises(PipelineError, match=r"round \d+ would have clients of [12] of the 3 sites"):
        prepare(few, sites.coordinator, tmp_path)
    prepare(few, sites.pooled, tmp_path)  # a simulation


def test_a_round_has_as_many_sites_as_the_roster_wants_without_those_that_drop_out() -> None:
    """Of five sites, three are enough if none colludes, and four if one does."""
    site_of = np.repeat(np.arange(5, dtype=np.int64), 2)
    require_enough_sites(lambda number: np.arange(0, 6, 2), 3, site_of)
    with pytest.raises(PipelineError, match=r"round 1 would have clients of 3 of the 5 sites, .* one of 4 sites at"):
        require_enough_sites(lambda number: np.arange(0, 6, 2), 3, site_of, fewest=4)


def test_dropouts_of_params_are_no_sites_of_a_secure_sum(sites: Sites, tmp_path: Path) -> None:
    lost = settings_of(**UNIFORM, rounds=3, dropouts=[{"round": 2, "site": 3}])
    with pytest.raises(PipelineError, match=r"round 2 would have clients of 2 of the 3 sites, .* 'train.dropouts'"):
        prepare(lost, sites.coordinator, tmp_path)
    with pytest.raises(PipelineError, match=r"round 1 would have clients of 3 of the 3 sites, and .* of 4 sites"):
        prepare(settings_of(**UNIFORM), sites.coordinator, tmp_path, fewest_sites=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_trainings_have_the_bits_of_the_simulation(worker: Worker, sites: Sites, name: str) -> None:
    require_same_bits(worker, sites, settings_of(**OTHERS[name]), [range(12), SEVEN, SEVEN])


@pytest.mark.slow
def test_a_model_is_answered_again_in_the_same_set_of_sites_only(
    training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """A training can be repeated; with other sites, its first sum would differ by the updates of some."""
    sites = Sites(tmp_path, *small(training_set))
    sites.start()
    try:
        chosen = settings_of(**UNIFORM)
        first = Rounds(sites, chosen, tmp_path / "first").total(101)
        again = Rounds(sites, chosen, tmp_path / "again").total(101)
        assert same_bits(*map(without_seconds, (first.leaves, again.leaves)))
        sites.stop()
        sites.identities |= {name: Ed25519PrivateKey.generate() for name in ("site-2", "site-3")}
        keys = {name: key.public_key().public_bytes_raw().hex() for name, key in sites.identities.items()}
        sites.roster = PinnedRoster.of(keys)
        sites.start()
        others = Rounds(sites, chosen, tmp_path / "others")
        with pytest.raises(WorkersLostError, match="site-1: this model was answered in another set of sites"):
            others.total(101)
        assert others.total(102).sites == NAMES  # another model
    finally:
        sites.stop()
