"""Checkpoints as files: whole or not there, this training's or not used, and what clients keep with them."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe import params
from fedpipe.code import TRAINING, chosen_code
from fedpipe.runtime.checkpoint import Best, Checkpoint
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.kept_state import KeptFiles
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.training_key import differences
from tests import RECIPE, ROOT
from tests.stages.test_deps import STAGES

KEY = {"params": {"batch_size": 20}, "shards": "ab"}


@pytest.fixture
def settings() -> params.Train:
    return changed(params.load(params.Train, RECIPE / "params.yaml"), evaluate_every=0)


def changed(settings: params.Train, **update: Any) -> params.Train:
    return type(settings).model_validate(settings.model_dump() | update)


def checkpoint(rounds: int, **more: Any) -> Checkpoint:
    """After so many rounds, with leaves of the kinds and shapes that a server's state has."""
    records = [
        RoundRecord(each, 1 / each, 0.1, 2, 0, 40, 8, 8, others={"x": 0.1 * each}) for each in range(1, rounds + 1)
    ]
    state = [
        np.full((2, 3), rounds / 3, np.float32),
        np.array(rounds, np.int32),
        np.zeros((0, 2), np.int64),
        np.array(True),
    ]
    return Checkpoint(records, [0.1] * rounds, state, **more)


def save(folder: Path, settings: params.Train, *rounds: int, key: dict[str, Any] = KEY) -> None:
    """A training that is killed after the last of ``rounds``."""
    checkpoints = Checkpoints(folder, key, settings)
    for each in rounds:
        checkpoints.save(checkpoint(each), None)


def loaded(folder: Path, settings: params.Train, key: dict[str, Any] = KEY) -> Checkpoint | None:
    with pytest.raises(KeyboardInterrupt), Checkpoints(folder, key, settings) as checkpoints:
        result = checkpoints.resumed
        raise KeyboardInterrupt  # or they would be removed
    return result


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_is_saved_is_found_bit_for_bit(tmp_path: Path, settings: params.Train) -> None:
    best = Best(0.5, 2, [np.ones((3, 1), np.float32), np.float32(2)])
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path, KEY, settings) as checkpoints:
        assert checkpoints.resumed is None
        checkpoints.tracking = {"journal": "a"}
        rows = [np.arange(6.0).reshape(2, 3), np.ones((1, 3))]
        checkpoints.save(checkpoint(3, best=best, client_rows=rows), None)
        raise KeyboardInterrupt
    again, expected = loaded(tmp_path, settings), checkpoint(3)
    assert again is not None and again.best is not None and again.tracking == {"journal": "a"}
    assert (again.records, again.seconds, again.round) == (expected.records, expected.seconds, 3)
    assert again.best[:2] == best[:2]
    np.testing.assert_array_equal(np.concatenate(again.client_rows), [[0, 1, 2], [3, 4, 5], [1, 1, 1]])
    for actual, other in zip([*again.state, *again.best[2]], [*expected.state, *best[2]], strict=True):
        assert (actual.shape, actual.dtype, actual.tobytes()) == (np.shape(other), other.dtype, other.tobytes())


def test_the_last_two_are_kept_and_none_when_the_outputs_stand(tmp_path: Path, settings: params.Train) -> None:
    save(tmp_path, settings, 1, 2, 3)
    assert files(tmp_path) == ["round-000002.safetensors", "round-000003.safetensors"]
    with Checkpoints(tmp_path, KEY, settings):
        pass
    assert not (tmp_path / "checkpoints").exists()


def test_damage_anywhere_is_noticed(tmp_path: Path, settings: params.Train, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, settings, 2, 3)
    path = tmp_path / "checkpoints/round-000003.safetensors"
    whole = path.read_bytes()
    for place in {*range(0, len(whole), 7), len(whole) - 1}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        again = loaded(tmp_path, settings)
        # A flipped bit in a space that pads the header, and the like, changes nothing.
        assert again is not None and (again.round == 2 or again.state[0].tobytes() == checkpoint(3).state[0].tobytes())
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        again = loaded(tmp_path, settings)
        assert again is not None and again.round == 2
    assert f"{path} is damaged\ntrain: resumes at round 3 of 10, after" in capfd.readouterr().err


def test_another_training_starts_anew_and_says_why(
    tmp_path: Path, settings: params.Train, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, settings, 1, 2)
    assert loaded(tmp_path, settings, {"params": {"batch_size": 10}, "shards": "cd"}) is None
    output = capfd.readouterr().err
    assert "is of another training, which differs in train.batch_size, shards" in output
    assert "starts anew with round 1" in output
    assert loaded(tmp_path, changed(settings, checkpoint={"enabled": False})) is None


def test_more_rounds_go_on_and_fewer_only_from_within(tmp_path: Path, settings: params.Train) -> None:
    save(tmp_path, settings, 5, 7)
    for rounds, after in ((70, 7), (7, 7), (6, 5)):
        again = loaded(tmp_path, changed(settings, rounds=rounds))
        assert again is not None and again.round == after
    assert loaded(tmp_path, changed(settings, rounds=4)) is None


def test_a_round_that_was_evaluated_as_the_last_one_is_not_on_the_way(settings: params.Train) -> None:
    every_three = changed(settings, evaluate_every=3, rounds=4)
    fourth = checkpoint(4)
    fourth.records[-1] = dataclasses.replace(fourth.records[-1], test_accuracy=0.5)
    assert fourth.is_one_of(every_three)
    assert not fourth.is_one_of(changed(every_three, rounds=9))
    assert checkpoint(4).is_one_of(changed(every_three, rounds=9))
    assert not checkpoint(4).is_one_of(every_three)


def test_killed_in_the_middle_of_a_save(tmp_path: Path, settings: params.Train) -> None:
    save(tmp_path, settings, 1, 2)
    code = """
        import os, signal, sys
        from pathlib import Path
        from fedpipe.runtime import checkpoints
        from tests.fedpipe.runtime.test_checkpoints import RECIPE, changed, params, save
        whole = checkpoints.to_bytes
        def half(*arguments):
            content = whole(*arguments)
            Path(sys.argv[1], "checkpoints", "round-000003.safetensors.partial").write_bytes(content[:-9])
            os.kill(os.getpid(), signal.SIGKILL)
        checkpoints.to_bytes = half
        save(Path(sys.argv[1]), changed(params.load(params.Train, RECIPE / "params.yaml"), evaluate_every=0), 3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert files(tmp_path)[-1] == "round-000003.safetensors.partial"
    again = loaded(tmp_path, settings)
    assert again is not None and again.round == 2
    save(tmp_path, settings, 3)
    assert files(tmp_path) == ["round-000003.safetensors"]


def test_another_training_in_the_folder_is_waited_for(tmp_path: Path, settings: params.Train) -> None:
    code = f"""
        from tests.fedpipe.runtime.test_checkpoints import KEY, RECIPE, Checkpoints, Path, params
        with Checkpoints(Path({str(tmp_path)!r}), KEY, params.load(params.Train, RECIPE / "params.yaml")):
            print("in", flush=True)
    """
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path, KEY, settings):
        other = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert other.stderr is not None and b"waits for another training that writes to" in other.stderr.readline()
        assert other.poll() is None
        raise KeyboardInterrupt
    assert other.communicate(timeout=60)[0] == b"in\n"


def test_saving_takes_a_small_share(tmp_path: Path, settings: params.Train, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, KEY, changed(settings, checkpoint={"enabled": True, "seconds": 10}))
    assert not checkpoints.due()
    now[0] += 10
    assert checkpoints.due()
    with checkpoints.timed():
        now[0] += 2  # 5 % of 40
    now[0] += 39
    assert not checkpoints.due()
    now[0] += 1
    assert checkpoints.due()


class Clients:
    """Three clients that keep a file each round, as the worker writes it, and a training that is saved."""

    def __init__(self, folder: Path, settings: params.Train, key: dict[str, Any] = KEY) -> None:
        self.checkpoints = Checkpoints(folder, key, settings)
        self.checkpoints.resumed = self.checkpoints.latest()
        self.kept = self.checkpoints.kept_state(3)
        self.folder = self.kept.folder

    def round(self, number: int, *clients: int) -> None:
        for client in clients:
            (self.folder / f"{client}.{number}").write_text(f"{client} {number}")
        self.kept.advance(np.array(clients), number)

    def save(self, number: int) -> None:
        self.checkpoints.save(checkpoint(number), self.kept)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def test_files_stay_while_a_checkpoint_needs_them(tmp_path: Path, settings: params.Train) -> None:
    clients = Clients(tmp_path, settings)
    clients.round(1, 0, 1)
    clients.save(1)
    clients.round(2, 1, 2)
    clients.save(2)
    clients.round(3, 0, 1)
    assert clients.files() == {"0.1", "1.1", "1.2", "2.2", "0.3", "1.3"}
    clients.save(3)  # with it, the checkpoint after round 1 goes, which alone needs 1.1
    assert clients.files() == {"0.1", "1.2", "2.2", "0.3", "1.3"}
    clients.round(4, 2)
    (clients.folder / "0.4.tempstate17").touch()
    # Killed: round 4 is run again, and its files are not there yet.
    again = Clients(tmp_path, settings)
    assert again.kept.last.tolist() == [3, 3, 2]
    assert again.files() == {"0.1", "1.2", "2.2", "0.3", "1.3"}
    again.round(4, 2)
    again.save(4)
    assert again.files() == {"2.2", "0.3", "1.3", "2.4"}


def test_a_lost_or_changed_file_of_a_client_means_the_checkpoint_before(tmp_path: Path, settings: params.Train) -> None:
    clients = Clients(tmp_path, settings)
    clients.round(1, 0, 1)
    clients.save(1)
    clients.round(2, 1, 2)
    clients.save(2)
    path = clients.folder / "2.2"
    for content in ("2 3", None):
        path.write_text(content) if content else path.unlink()
        again = loaded(tmp_path, settings)
        assert again is not None and again.round == 1
    assert Clients(tmp_path, settings).kept.last.tolist() == [1, 1, -1]


def test_who_still_writes_for_another_training_writes_elsewhere(tmp_path: Path, settings: params.Train) -> None:
    """As a cluster's worker that was cut off from a training that was stopped and begun with another param."""
    late = Clients(tmp_path, settings)
    late.round(1, 0)
    clients = Clients(tmp_path, settings, KEY | {"params": {"batch_size": 10}})
    assert not late.folder.exists() and clients.files() == set()
    clients.round(1, 0)
    late.folder.mkdir()
    (late.folder / "0.1").write_text("another one")
    assert (clients.folder / "0.1").read_text() == "0 1"
    with clients.checkpoints:
        pass
    assert not (tmp_path / "clients").exists()


def test_without_checkpoints_files_go_at_once(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path / "clients", 2)
    for number in (1, 2):
        (kept.folder / f"0.{number}").write_text("x")
        kept.advance(np.array([0]), number)
    assert os.listdir(kept.folder) == ["0.2"]  # noqa: PTH208


def test_the_key_names_what_differs() -> None:
    key = {"params": {"a": 1, "b": 2}, "code": "x", "libraries": {"numpy": "1"}}
    assert differences(key, key) == []
    assert differences(key, {"params": {"a": 1, "b": 3}, "code": "y", "libraries": {"numpy": "1"}}) == [
        "train.b",
        "code",
    ]


def test_the_key_covers_the_code_that_dvc_watches(settings: params.Train) -> None:
    watched = {
        dep.removeprefix("fedpipe/")
        for dep in STAGES["train"]["deps"]
        if dep.startswith("fedpipe/") and "$" not in dep and "figures" not in dep
    }
    assert watched == set(TRAINING)
    assert "algorithms/fed_avg.py" in chosen_code(settings) and "models/baseline_cnn.py" in chosen_code(settings)
