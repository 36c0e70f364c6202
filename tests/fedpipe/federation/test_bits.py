"""A federation has the bits of the simulation over the pooled samples with the same sites."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.federation.fitting import require_fitting
from fedpipe.federation.messages import Pass, pack, unpack_answer, unpack_question
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training_key import Key, name_of, training_key
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING, cohorts_of, wanted
from tests.fedpipe.federation.secure_rounds import refusal
from tests.fedpipe.federation.sites import CLIENTS, NAMES, SAMPLES, Sites, small
from tests.fedpipe.training import first_weights, kept_in_file, run, same_bits, train, train_settings

FED_BN = "fed_bn with mean"  # its model needs larger images: it has a test of its own
# Rejected: seeded noise, which sites draw with keys of their own, and baselines without a federation.
REJECTED = ("fed_avg with local_dp", "centralised with mean", "local_only with mean")
SEVEN = [0, 2, 3, 4, 6, 8, 11]
NOBODY_OF_SITE_2 = [1, 2, 8, 9]
STATEFUL = {"algorithm": "scaffold", "compressor": "top_k"}  # clients keep both files' state
PERSONAL = {"ditto": {}, "ifca": {}, "fed_rep": {"model": "mcmahan_2nn"}}
LOSSES: dict[str, Any] = {"cohort": "power_of_choice", "power_of_choice": {"candidates": 7}, "clients_per_round": 4}


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


def require_same_bits(worker: Worker, sites: Sites, settings: Train, cohorts: Any) -> None:
    here = run(worker, settings, sites.pooled, cohorts)
    with sites.training(settings) as federation:
        remote = run(worker, settings, sites.coordinator, cohorts, elsewhere=federation)
    assert same_bits(remote.weights, here.weights) and same_bits(remote.state, here.state)
    assert repr(remote.rounds) == repr(here.rounds)
    assert not remote.kept  # at the coordinator
    files = {file.name: kept_in_file(file) for file in kept_files(sites) if file.name in here.kept}
    assert files.keys() == here.kept.keys()
    assert all(same_bits([files[name]], [here.kept[name]]) for name in files)


def is_pass(question: bytes) -> bool:
    return isinstance(unpack_question(question).message, Pass)


def kept_files(sites: Sites) -> list[Path]:
    return [file for name in sites.running for file in sites.place(name).state.glob("*/*.*")]


def key_of(settings: Train, shards: Path) -> Key:
    return training_key(settings, Manifest.read(shards), first_weights(settings, (8, 8, 1)), None)


def resumed() -> Train:
    return train_settings(**TRAINING | STATEFUL, rounds=5, clients_per_round=7, evaluate_every=0, keep_best=False)


def trained(
    sites: Sites, settings: Train, shards: Path, worker: Worker, folder: Path, stop_after: int | None = None
) -> Trained | None:
    """A training with checkpoints; None if it was stopped."""
    manifest = Manifest.read(shards)
    key = key_of(settings, shards)

    def stop(completed: Any) -> None:
        if completed.record.round == stop_after:
            raise KeyboardInterrupt

    if manifest.samples_at is None:
        with Checkpoints(folder, key, settings) as checkpoints:
            ended = train(settings, shards, worker, folder, checkpoints=checkpoints)
            if ended.personal is not None:  # while what clients keep is there
                ended.personal.write(folder / "models")
            return ended
    with sites.training(settings, name_of(key)) as federation:
        try:
            with Checkpoints(folder, key, settings, federation.states) as checkpoints:
                options = {"on_round": stop, "checkpoints": checkpoints, "elsewhere": federation}
                return train(settings, shards, worker, folder, **options)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            return None


def test_goes_on_to_the_same_bits_after_a_stop_and_lost_sites(
    worker: Worker, sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The coordinator is stopped; a site is started anew between two rounds, and another in the middle of one."""
    settings = resumed()
    here = trained(sites, settings, sites.pooled, worker, tmp_path / "here")
    passes = 0

    def lose(name: str, question: bytes) -> None:
        nonlocal passes
        passes += is_pass(question)
        if passes in (3, 8):  # in the middle of a round
            passes += 100
            sites.stop(name)
            sites.start(name)

    sites.before = lose
    assert trained(sites, settings, sites.coordinator, worker, tmp_path / "there", stop_after=3) is None
    remote = trained(sites, settings, sites.coordinator, worker, tmp_path / "there")
    sites.before = lambda site, question: None
    output = capsys.readouterr().err
    assert "resumes at round 4 of 5" in output and "started anew, joins again" in output
    assert here is not None and remote is not None and same_bits(here.weights, remote.weights)
    assert repr(here.records) == repr(remote.records)
    assert not any((tmp_path / "there").glob("clients/*/*"))  # the coordinator has no file of a client


def test_a_site_answers_nothing_else(sites: Sites) -> None:
    """And the audit log has each question, and the size of each answer."""
    site = sites.running["site-2"]  # it has clients 3 to 7
    question = next(content for name, content in reversed(sites.questions) if name == "site-2" and is_pass(content))
    answer = site.answer(question)
    assert len(unpack_answer(answer).arrays) and site.answer(question) == answer
    training = unpack_question(question).message.training

    def refused(clients: list[int], *, message: bool = True, training: str = training, **changes: Any) -> str:
        requests = WorkRequest.of(clients).pack()
        fields: dict[str, Any] = {
            "process": "training",
            "number": 0,
            "chunks": [[len(clients)]],
            "released": 0,
        } | changes
        leaves = [np.zeros(3, np.float32)] if message else []
        answered = unpack_answer(site.answer(pack(Pass(training=training, **fields), [*leaves, requests]))).message
        return "unknown" if answered.unknown else "; ".join(answered.refused)

    assert "clients that it does not have" in refused([2, 3]) and "does not have" in refused([7, 8])
    assert "a client is asked twice" in refused([3, 4, 3])
    assert "does not fit this training" in refused([3, 4])
    assert "must have chunks, and arrays" in refused([3, 4], message=False)
    assert "int32 [clients, 4], or a group is empty" in refused([3, 4], chunks=[[1, 2]])
    assert "there is no pass 1" in refused([3, 4], number=1)
    assert "needs no losses of clients" in refused([3, 4], process="losses")
    assert refused([3, 4], training="f" * 16) == "unknown"
    lines = [json.loads(line) for line in (sites.place("site-2").logs / "audit.jsonl").read_text().splitlines()]
    assert [line["way"] for line in lines] == ["in", "out"] * (len(lines) // 2)
    assert len(answer) in [line["bytes"] for line in lines if line["way"] == "out" and line["kind"] == "pass"]
    assert any("does not have" in line.get("refused", "") for line in lines)


def test_a_site_that_lost_what_its_clients_keep_is_noticed(sites: Sites) -> None:
    with sites.training(resumed(), name_of(key_of(resumed(), sites.coordinator))) as federation:
        last = np.full(12, -1, np.int32)
        for file in kept_files(sites):
            client, _, written = file.name.partition(".")
            last[int(client)] = max(last[int(client)], int(written))
        kept = federation.states.restored(last, np.zeros((12, 32), np.uint8), 3)
        digests = kept.digests()
        firsts = [0, 3, 8]  # one digest a site, in the place of its first client
        assert (digests[firsts] != 0).any(axis=1).all() and not np.delete(digests, firsts, axis=0).any()
        assert federation.states.is_whole(last, digests)
        victim = sites.place("site-3").state
        shutil.move(victim, victim.with_name("away"))
        assert not federation.states.is_whole(last, digests)
        shutil.move(victim.with_name("away"), victim)


def test_policy_refuses_before_the_first_round(training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    sites = Sites(tmp_path, *small(training_set), algorithms=["fed_avg"], rounds=4, least_sites=4)
    sites.start()
    try:
        refusals: dict[str, dict[str, Any]] = {
            r"site-1: its policy does not allow 'train.aggregator' median \(it allows mean, ": {"aggregator": "median"},
            r"site-2: its policy does not allow 'train.algorithm' fed_prox \(it allows fed_avg\)": {
                "algorithm": "fed_prox"
            },
            r"site-3: its policy wants 4 sites in a training, and this one has 3": {"rounds": 4},
            r"it allows 4 rounds in all, it has answered 0|its policy allows 4 rounds in all": {"rounds": 5},
            r"its policy sends no losses of single clients": LOSSES,
        }
        for sentence, changes in refusals.items():
            settings = train_settings(**TRAINING | {"client_weighting": "uniform"} | changes)
            with pytest.raises(PipelineError, match=sentence), sites.training(settings):
                pass
        lines = (sites.place("site-1").logs / "audit.jsonl").read_text()
        assert len(lines.splitlines()) == 2 * len(refusals)
    finally:
        sites.stop()


def test_what_sites_cannot_do_yet_is_refused_by_name(sites: Sites) -> None:
    refusals: dict[str, dict[str, Any]] = {
        r"'train.local_dp.noise_multiplier' is auto, which sites do not compute": {
            "aggregator": "local_dp",
            "client_weighting": "uniform",
            "local_dp": {"noise_multiplier": "auto"},
            "privacy": {"epsilon": 8.0, "noise": "secret"},
        },
        r"'train.privacy.noise' is seeded, and sites draw the noise of 'train.aggregator' local_dp with secret": {
            "aggregator": "local_dp",
            "client_weighting": "uniform",
            "local_dp": {},
        },
        r"'train.privacy.noise' is secret, and a secret does not travel to sites": {
            "aggregator": "dp_gaussian",
            "client_weighting": "uniform",
            "dp_gaussian": {},
            "privacy": {"noise": "secret"},
        },
    }
    before = len(sites.questions)
    for sentence, changes in refusals.items():
        with pytest.raises(PipelineError, match=sentence), sites.training(train_settings(**TRAINING | changes)):
            pass
    assert len(sites.questions) == before


def test_the_same_model_is_not_answered_over_one_client_less(
    worker: Worker, training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Nor after a restart; the difference of both sums would be that client's update."""
    sites = Sites(tmp_path, *small(training_set), least_clients=2, least_samples=1)
    sites.start()
    try:
        settings = train_settings(**TRAINING | {"algorithm": "fed_avg"})
        with sites.training(settings) as federation:
            run(worker, settings, sites.coordinator, [range(12)], elsewhere=federation)
        own = [content for name, content in sites.questions if name == "site-2"]
        join, (message, arrays) = own[0], next(unpack_question(content) for content in own if is_pass(content))

        def refused(clients: list[int]) -> str:
            requests = WorkRequest.of(clients).pack()
            question = pack(message.model_copy(update={"chunks": [[len(clients)]]}), [*arrays[:-1], requests])
            return "; ".join(unpack_answer(sites.running["site-2"].answer(question)).message.refused)

        assert "answered the same message over other clients" in refused([3, 4, 5, 6])
        sites.stop("site-2")
        sites.start("site-2")
        sites.running["site-2"].answer(join)
        assert "answered the same message over other clients" in refused([3, 4, 5, 6])
        assert unpack_answer(sites.running["site-2"].answer(pack(message, arrays))).arrays
        # Nor over those of the same clients that have a batch, with which others add nothing.
        fields = unpack_question(join).message
        other = {**fields.settings, "last_batch": "drop", "batch_size": 5}
        assert not refusal(sites.running["site-2"].answer(pack(fields.model_copy(update={"settings": other}))))
        assert "answered the same message over other clients" in refusal(
            sites.running["site-2"].answer(pack(message, arrays))
        )
    finally:
        sites.stop()


@pytest.mark.slow
def test_has_the_bits_of_the_simulation_whoever_takes_part(worker: Worker, sites: Sites) -> None:
    """In a round of all, of some, and of the clients of two sites; one question to a site and pass, one sum a chunk."""
    before = len(sites.questions)
    require_same_bits(worker, sites, train_settings(**TRAINING | STATEFUL), [range(12), SEVEN, NOBODY_OF_SITE_2])
    assert [name for name, _ in sites.questions[before:]] == [*NAMES, *NAMES, *NAMES, *NAMES, "site-1", "site-3"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in wanted() if name not in (*REJECTED, FED_BN)])
def test_every_choice_has_the_bits_of_the_simulation(worker: Worker, sites: Sites, name: str) -> None:
    require_same_bits(worker, sites, chosen(name), cohorts_of(chosen(name), sites.pooled))


@pytest.mark.slow
def test_batch_normalization_of_clients_stays_at_their_sites(
    worker: Worker, training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, labels = training_set
    own = Sites(tmp_path, images[: sum(SAMPLES)], labels[: sum(SAMPLES)])
    own.start()
    try:
        require_same_bits(worker, own, chosen(FED_BN), cohorts_of(chosen(FED_BN), own.pooled))
    finally:
        own.stop()


@pytest.mark.parametrize("name", REJECTED)
def test_choices_without_these_bits_are_rejected(name: str) -> None:
    with pytest.raises(PipelineError, match=r"noise' is seeded|is a baseline without a federation"):
        require_fitting(chosen(name))


def chosen(name: str) -> Train:
    """The settings of a choice of `wanted`."""
    changes = wanted()[name]
    return train_settings(**TRAINING | {changes.get("algorithm", "fed_avg"): {}} | changes)


@pytest.mark.slow
def test_losses_of_clients_come_from_their_sites(worker: Worker, sites: Sites, tmp_path: Path) -> None:
    settings = train_settings(**TRAINING | LOSSES, rounds=3, evaluate_every=0, keep_best=False)
    here = trained(sites, settings, sites.pooled, worker, tmp_path / "here")
    remote = trained(sites, settings, sites.coordinator, worker, tmp_path / "there")
    assert here is not None and remote is not None and same_bits(here.weights, remote.weights)
    assert repr(here.records) == repr(remote.records)


@pytest.mark.slow
@pytest.mark.parametrize("name", PERSONAL)
def test_personal_models_stay_at_their_sites(worker: Worker, sites: Sites, tmp_path: Path, name: str) -> None:
    changes = {"rounds": 2, "evaluate_every": 0, "keep_best": False, "algorithm": name, name: {}} | PERSONAL[name]
    settings = train_settings(**TRAINING | changes)
    here = trained(sites, settings, sites.pooled, worker, tmp_path / "here")
    remote = trained(sites, settings, sites.coordinator, worker, tmp_path / "there")
    assert here is not None and remote is not None and same_bits(here.weights, remote.weights)
    assert here.personal is not None and remote.personal is None
    pooled = load_file(tmp_path / "here/models")
    ends = dict(zip(NAMES, np.cumsum(CLIENTS).tolist(), strict=True))
    for site, count in zip(NAMES, CLIENTS, strict=True):
        (file,) = sites.place(site).personal.glob("*.safetensors")
        models, own = load_file(file), slice(ends[site] - count, ends[site])
        for tensor, values in models.items():
            if name == "ifca" and tensor != "client_model":
                expected = pooled[tensor]  # the clusters' models, which all sites have
            else:
                expected = np.arange(count, dtype=np.int32) if name != "ifca" else pooled[tensor][own]
                expected = expected if tensor == "client_model" else pooled[tensor][own]
            assert same_bits([values], [expected]), (site, tensor)
        file.unlink()
