"""The noise of local_dp in a federation: from a secret key of each site, and from all that decides an answer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Join, Pass, pack, unpack_answer, unpack_question
from fedpipe.federation.policy import Policy
from fedpipe.federation.site_key import SiteKey
from fedpipe.params import validate
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training import prepare
from fedpipe.runtime.training_key import name_of, training_key
from fedpipe.runtime.worker import Worker
from tests import RECIPE
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.sites import CLIENTS, Sites, small
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

NOISE, NORM, SILENT = 0.5, 2.0, 1e-6
ALL = sum(CLIENTS)


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


def settings_of(noise: float = NOISE, drawn: str = "secret", **changes: Any) -> Train:
    own = {"norm": NORM, "noise_multiplier": noise}
    chosen = {"aggregator": "local_dp", "client_weighting": "uniform", "local_dp": own, "privacy": {"noise": drawn}}
    return train_settings(**TRAINING | {"evaluate_every": 0, "keep_best": False} | chosen | changes)


def trained(sites: Sites, settings: Train, worker: Worker, folder: Path, stop_after: int | None = None) -> Trained:
    """A training over the sites; without a result if it was stopped."""
    first = first_weights(settings, (8, 8, 1))
    key = training_key(settings, Manifest.read(sites.coordinator), first, None)

    class Stop:
        phase = "stop"

        def __getattr__(self, name: str) -> Any:
            return lambda *_: False

        def __enter__(self) -> "Stop":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def on_round_end(self, completed: Any) -> None:
            if completed.record.round == stop_after:
                raise KeyboardInterrupt

    with (
        sites.training(settings, name_of(key)) as federation,
        Checkpoints(folder, key, settings, federation.states) as checkpoints,
    ):
        training = prepare(settings, sites.coordinator, folder, first=first, checkpoints=checkpoints)
        return training.run(worker, elsewhere=federation, progress=False, hooks=[Stop()])  # type: ignore[list-item]


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])


def answer(sites: Sites, name: str, question: bytes) -> list[np.ndarray]:
    parcel = unpack_answer(sites.running[name].answer(question))
    assert not parcel.message.refused and not parcel.message.unknown
    return parcel.arrays


def last(sites: Sites, name: str, kind: type) -> bytes:
    own = [question for site, question in sites.questions if site == name]
    return next(question for question in reversed(own) if isinstance(unpack_question(question).message, kind))


@pytest.mark.slow
def test_a_training_has_the_noise_of_its_sites_and_resumes_with_the_same(
    worker: Worker, sites: Sites, tmp_path: Path
) -> None:
    """Of the variance of params, on every client; no simulation has it, and nothing is told beside it."""
    chosen = settings_of(rounds=1)
    ended = trained(sites, chosen, worker, tmp_path / "short")
    first = first_weights(chosen, (8, 8, 1))
    exact = run(worker, settings_of(SILENT, "seeded"), sites.pooled, [range(ALL)], first=first).weights
    seeded = run(worker, settings_of(NOISE, "seeded"), sites.pooled, [range(ALL)], first=first).weights
    noise, public = flat(ended.weights) - flat(exact), flat(seeded) - flat(exact)
    for each in (noise, public):
        assert each.std() == pytest.approx(NOISE * NORM / ALL**0.5, rel=0.12)
        assert abs(each.mean()) < 4 * each.std() / len(each) ** 0.5
    assert abs(np.corrcoef(noise, public)[0, 1]) < 0.2
    record, summary = ended.records[0], ended.summary()
    assert record.loss is record.accuracy is record.examples is record.clients is record.bytes_up is None
    assert summary["noise"] == "secret" and summary["noise_drawn_by"] == "sites" and "train" not in summary
    assert summary["neighbours"] == "replace all that one client holds"
    whole = trained(sites, settings_of(rounds=3), worker, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(sites, settings_of(rounds=3), worker, tmp_path / "stopped", stop_after=2)
    before = len(sites.questions)
    resumed = trained(sites, settings_of(rounds=3), worker, tmp_path / "stopped")
    assert same_bits(resumed.weights, whole.weights)
    kinds = [unpack_question(question).message.kind for _, question in sites.questions[before:]]
    assert kinds.count("pass") == len(CLIENTS)  # of the last round


@pytest.mark.slow
def test_a_repeated_question_has_the_same_noise_and_any_other_one_has_other_noise(worker: Worker, sites: Sites) -> None:
    """Also after a restart. Another model, other settings, another key: the difference of both answers has noise."""
    settings = settings_of()
    with sites.training(settings) as federation:
        run(worker, settings, sites.coordinator, [range(ALL)], elsewhere=federation)
    join, question = last(sites, "site-2", Join), last(sites, "site-2", Pass)
    fields, (message, arrays) = unpack_question(join).message, unpack_question(question)
    before = sites.running["site-2"].answer(question)
    leaves = answer(sites, "site-2", question)
    count = len(first_weights(settings, (8, 8, 1))) + 1  # the update, and how many clients sent one
    assert leaves[count - 1] == CLIENTS[1] and not any(leaf.any() for leaf in leaves[count:])

    def is_other(changed: list[np.ndarray]) -> bool:
        difference = flat(changed[: count - 1]) - flat(leaves[: count - 1])
        return bool(difference.std() == pytest.approx(NOISE * NORM * (2 * CLIENTS[1]) ** 0.5, rel=0.15))

    def restart() -> None:
        sites.stop("site-2")
        sites.start("site-2")
        assert not unpack_answer(sites.running["site-2"].answer(join)).message.refused

    restart()
    assert sites.running["site-2"].answer(question) == before
    moved = [arrays[0] + np.float32(1e-6), *arrays[1:]]
    assert is_other(answer(sites, "site-2", pack(message, moved)))
    other = pack(fields.model_copy(update={"settings": {**fields.settings, "rounds": fields.settings["rounds"] + 1}}))
    answer(sites, "site-2", other)
    assert is_other(answer(sites, "site-2", question))
    place = sites.place("site-2")
    key = place.noise_key.read_bytes()
    assert place.noise_key.stat().st_mode & 0o777 == 0o600 and not list(place.state.glob("*/noise*"))
    assert not any(key in question for _, question in sites.questions) and key not in before
    place.noise_key.write_bytes(b"")
    sites.stop("site-2")
    sites.start("site-2")
    (refused,) = unpack_answer(sites.running["site-2"].answer(join)).message.refused
    assert refused == "its key for the noise of clients cannot be read or made (its audit log says why)"
    place.noise_key.unlink()
    restart()
    assert is_other(answer(sites, "site-2", question)) and place.noise_key.read_bytes() != key


def test_two_sites_have_keys_of_their_own(tmp_path: Path) -> None:
    a, b = (SiteKey.of_noise(tmp_path / name) for name in ("hospital-a.noise", "hospital-b.noise"))
    assert a.noise("work") == SiteKey.of_noise(tmp_path / "hospital-a.noise").noise("work")
    assert len({a.noise("work"), b.noise("work"), a.noise("other work")}) == 3
    assert repr(a) == "SiteKey()"
    (tmp_path / "hospital-a.noise").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"hospital-a\.noise is damaged: it is the key of the noise of this site's"):
        SiteKey.of_noise(tmp_path / "hospital-a.noise")


def test_seeded_noise_at_sites_is_refused_before_any_stage(tmp_path: Path) -> None:
    content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))
    content["partition"] |= {"scheme": "at_sites", "at_sites": {"sites": ["a", "b"]}}
    content["train"] |= {"aggregator": "local_dp", "client_weighting": "uniform"}
    file = tmp_path / "params.yaml"
    YAML().dump(content, file)
    with pytest.raises(PipelineError, match=r"'train\.privacy\.noise' is seeded, and sites draw the noise of 'train\."):
        validate(file)
    content["train"]["privacy"]["noise"] = "secret"
    YAML().dump(content, file)
    validate(file)


def test_the_least_noise_of_a_policy_counts_noise_of_clients() -> None:
    policy = Policy.model_validate({"least_clients": 1, "least_samples": 1, "least_noise": 0.5})
    assert not policy.refused_settings(settings_of(0.5), 3, 0)
    assert policy.refused_settings(settings_of(0.4), 3, 0)
