"""Secure sums go on without lost sites, if enough are left: the bits of a simulation that has the same dropouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import WorkersLostError
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training_key import name_of, training_key
from fedpipe.runtime.worker import Worker
from fedpipe.secure_aggregation.coordinator_messages import Agreements, Begin, Delivery, Survivors
from fedpipe.secure_aggregation.message import Message, kind_of
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.secure_rounds import Rounds, step_of
from tests.fedpipe.federation.sites import Sites, small
from tests.fedpipe.training import first_weights, same_bits, train, train_settings

CHOSEN: dict[str, Any] = {
    "aggregator": "secure_sum",
    "secure_sum": {"most_examples": 10},
    "algorithm": "ditto",  # whose clients keep state
    "ditto": {},
    "rounds": 7,
    "evaluate_every": 0,
    "keep_best": False,
    "checkpoint": {"seconds": 1000.0},  # none is due
}


def trained(sites: Sites, settings: Train, worker: Worker, folder: Path, quorum: int | None = None) -> Trained:
    """A training over the sites with journals in ``folder``, or a simulation."""
    shards = sites.pooled if quorum is None else sites.coordinator
    key = training_key(settings, Manifest.read(shards), first_weights(settings, (8, 8, 1)), None)
    if quorum is None:
        with Checkpoints(folder, key, settings) as checkpoints:
            return train(settings, shards, worker, folder, checkpoints=checkpoints)
    with (
        sites.training(settings, name_of(key), journals=folder / "secure-sums", quorum=quorum) as federation,
        Checkpoints(folder, key, settings, federation.states) as checkpoints,
    ):
        return train(settings, shards, worker, folder, checkpoints=checkpoints, elsewhere=federation)


def at_steps(sites: Sites, actions: dict[tuple[str, type[Message], int], Callable[[], object]]) -> None:
    """Does something before a site gets a kind of step for the n-th time, counted from 1."""
    counts: dict[tuple[str, int], int] = {}

    def before(name: str, question: bytes) -> None:
        step = step_of(question)
        if step is None:
            return
        kind = kind_of(step)
        assert kind is not None
        counts[name, kind] = counts.get((name, kind), 0) + 1
        for (site, wanted, count), action in actions.items():
            if (site, wanted.KIND) == (name, kind) and counts[name, kind] == count:
                action()

    sites.before = before


@pytest.mark.slow
def test_has_the_bits_of_the_simulation_with_its_dropouts_also_when_it_reads_its_sums_again(
    worker: Worker, training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """A site that is lost before its integers have come is not in the sum; one that is lost afterwards is.

    Then the coordinator fails before its first checkpoint, and reads the sums of all rounds from the disk.
    """
    sites = Sites(tmp_path / "sites", *small(training_set), clients=[3, 2, 3, 4])
    sites.start()

    def fail() -> None:
        raise RuntimeError

    at_steps(
        sites,
        {
            ("site-2", Delivery, 2): lambda: sites.stop("site-2"),  # in round 2, before its integers came
            ("site-1", Agreements, 3): lambda: sites.start("site-2"),  # takes part from round 4 on
            ("site-4", Survivors, 5): lambda: sites.stop("site-4"),  # in round 5, after its integers came
            ("site-1", Begin, 6): lambda: sites.start("site-4"),  # after round 6 has begun: from round 7 on
            ("site-1", Agreements, 6): fail,
        },
    )
    try:
        settings = train_settings(**TRAINING | CHOSEN)
        with pytest.raises(RuntimeError):
            trained(sites, settings, worker, tmp_path / "there", quorum=3)
        before = len(sites.questions)
        sites.before = lambda site, question: None
        remote = trained(sites, settings, worker, tmp_path / "there", quorum=3)
        steps = [step for _, content in sites.questions[before:] if (step := step_of(content)) is not None]
        # The last step of round 6 from each of its three sites, and round 7.
        assert [kind_of(step) for step in steps].count(Begin.KIND) == 4 and len(steps) == 3 + 20
        listed = remote.summary()["dropouts"]
        assert listed == [{"round": 2, "site": 2}, {"round": 3, "site": 2}, {"round": 6, "site": 4}]
        again = type(settings).model_validate(settings.model_dump() | {"dropouts": listed})
        here = trained(sites, again, worker, tmp_path / "here")
        assert same_bits(here.weights, remote.weights) and repr(here.records) == repr(remote.records)
    finally:
        sites.stop()


@pytest.mark.slow
def test_too_few_sites_stop_a_training(
    training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any phase; and the round has its sum when they are back."""
    sites = Sites(tmp_path / "sites", *small(training_set))
    sites.start()
    try:
        rounds = Rounds(sites, train_settings(**TRAINING | CHOSEN | {"algorithm": "fed_avg"}), tmp_path / "journals")
        rounds.federation.members.quorum = 2
        for kind, phase in (Begin, "keys"), (Delivery, "mask"):
            sentence = f"2 sites answered in phase {phase}, and 3 are needed"
            number, site = next(rounds.numbers), sites.running["site-3"]
            at_steps(sites, {("site-3", kind, 1): lambda: sites.running.pop("site-3")})
            with pytest.raises(WorkersLostError, match=f"round {number} has no secure sum: {sentence}"):
                rounds.total(number)
            sites.running["site-3"] = site
            sites.before = lambda site, question: None
            rounds.federation.members.lost.clear()
            assert rounds.total(number).sites == sites.names
        with pytest.raises(WorkersLostError, match="2 sites that are not lost have clients in it, and 3 are needed"):
            rounds.total(None, "site-1", "site-2")
        assert "continues with site-1, site-2" in capsys.readouterr().err
    finally:
        sites.stop()
