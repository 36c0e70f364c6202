"""Batches on hold: the good ones go on, and a person's decision is remembered in git and not in data/held."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe.datasets.pool import Pool
from fedpipe.errors import PipelineError
from operations.incoming import __main__ as incoming
from operations.incoming.decisions import read_decisions
from operations.incoming.fetch import fetch
from operations.incoming.held import held
from tests import ROOT
from tests.batches import add_npz

Samples = tuple[np.ndarray, np.ndarray]
INCOMING, HELD, REJECTED = Path("data/incoming"), Path("data/held"), Path("data/rejected")
POOL = Pool(layout.POOL)


@pytest.fixture
def clients(taking_in: Path, training_set: Samples) -> Path:
    """Where clients left a good batch and an inverted one."""
    images, labels = training_set
    folder = taking_in / "clients"
    add_npz(folder, "good", images[:60], labels[:60])
    add_npz(folder, "inverted", 255 - images[60:120], labels[60:120])
    return folder


def command(*arguments: str) -> str:
    """Runs the command and returns its words."""
    done = subprocess.run(
        [sys.executable, "-m", "operations.incoming", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def batches() -> list[str]:
    return [entry.batch for entry in POOL.read_ledger()]


def test_a_bad_batch_waits_and_the_good_one_does_not(clients: Path) -> None:
    result = incoming.take_in(str(clients))
    assert batches() == ["good"] and list(result.held) == ["inverted"] and result.rejected == {}
    assert held() == result.held and "its brightness is 1" in held()["inverted"]
    assert {path.name for path in HELD.iterdir()} == {"inverted.npz", "inverted.npz.sha256", "inverted.reason.txt"}
    assert list(INCOMING.iterdir()) == []
    # A corrected one of this name is no bad one any more.
    images, labels = (
        part[:60] for part in (255 - np.load(HELD / "inverted.npz")["x"], np.load(HELD / "inverted.npz")["y"])
    )
    add_npz(INCOMING, "inverted", images, labels)
    assert [entry.batch for entry in incoming.take_in().accepted] == ["inverted"] and held() == {}
    assert list(HELD.iterdir()) == []


def test_a_released_batch_joins_the_pool(clients: Path, capsys: pytest.CaptureFixture[str]) -> None:
    incoming.take_in(str(clients))
    incoming._list()
    assert "incoming: inverted: on hold in data/held: its brightness is" in capsys.readouterr().err
    output = command("release", "inverted", "--reason", "a new  camera")
    assert output == (
        "incoming: inverted: released in data/pool/decisions.csv; commit this file\n"
        "incoming: inverted: 60 samples, pool version 2\n"
    )
    assert batches() == ["good", "inverted"] and held() == {}
    (decision,) = read_decisions(POOL.decisions)
    assert decision.reason == "a new camera" and decision.sha256 == POOL.read_ledger()[1].sha256
    assert "no batch on hold" in command("list")


@pytest.mark.slow
def test_the_decision_alone_decides_next_week(clients: Path, training_set: Samples) -> None:
    """As in CI: data/held is gone, and the batch is fetched again."""
    incoming.take_in(str(clients))
    (reason,) = held().values()
    for path in HELD.iterdir():
        path.unlink()
    with pytest.raises(PipelineError, match=r"there is no batch 'inverted' in data/held: fetch it .* --sha256"):
        incoming._decide("inverted", "released", None, "")
    incoming._decide("inverted", "released", reason.rpartition("SHA-256 ")[2], "")
    again = incoming.take_in(str(clients))
    assert [entry.batch for entry in again.accepted] == ["inverted"] and batches() == ["good", "inverted"]
    # Of this content only: another one of a released name waits.
    add_npz(clients, "other", 255 - training_set[0][200:260], training_set[1][200:260])
    incoming._decide("other", "released", "ab" * 32, "")
    assert list(incoming.take_in(str(clients)).held) == ["other"]


@pytest.mark.slow
def test_a_rejected_batch_is_not_fetched_again(clients: Path) -> None:
    incoming.take_in(str(clients))
    command("reject", "inverted", "--reason", "upside down")
    assert held() == {} and (REJECTED / "inverted.npz").exists() and not list(HELD.iterdir())
    assert (REJECTED / "inverted.reason.txt").read_text() == "upside down\n"
    assert fetch(str(clients)) == []
    # Left here by hand, it is rejected by what the file says.
    (REJECTED / "inverted.npz").rename(INCOMING / "inverted.npz")
    (REJECTED / "inverted.npz.sha256").rename(INCOMING / "inverted.npz.sha256")
    assert incoming.take_in().rejected == {"inverted": "data/pool/decisions.csv rejects it: upside down"}
    incoming._decide("inverted", "released", read_decisions(POOL.decisions)[0].sha256, "")  # the last row counts
    assert [row.decision for row in read_decisions(POOL.decisions)] == ["rejected", "released"]
    assert fetch(str(clients)) == ["inverted"]


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [("inverted", "abc", "'sha256' is 'abc'"), ("../x", "ab" * 32, "'batch' is '../x'")],
)
def test_what_is_no_decision(taking_in: Path, name: str, sha256: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        incoming._decide(name, "released", sha256, "")
    assert not POOL.decisions.exists()


def test_a_damaged_file_of_decisions_is_named(taking_in: Path) -> None:
    POOL.decisions.write_text("batch,sha256,decision,reason\na,b,c,d\n")
    with pytest.raises(PipelineError, match=r"data/pool/decisions\.csv, line 2: .*restore it with `git checkout"):
        incoming.take_in()
