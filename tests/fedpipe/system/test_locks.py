"""A lock on a file keeps other processes out, and is free when its holder has ended."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedpipe.system.locks import LockTaken, lock, locked_file, try_lock
from tests import ROOT

HOLD = """
import sys, time
from pathlib import Path
from fedpipe.system.locks import locked_file
with locked_file(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != "locked\n":
            raise AssertionError("the other process did not take the lock")
        yield process
        process.kill()


def test_a_lock_that_another_process_holds_is_refused_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", 60), pytest.raises(LockTaken), locked_file(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("patience", [30.0, math.inf])
def test_a_patient_process_gets_the_lock_when_its_holder_ends(tmp_path: Path, patience: float) -> None:
    waits: list[str] = []
    with holder(tmp_path / "lock", 0.5), locked_file(tmp_path / "lock", patience, lambda: waits.append("waits")):
        assert waits == ["waits"]


def test_patience_ends(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", 60), (tmp_path / "lock").open() as file, pytest.raises(LockTaken):
        lock(file, patience=0.2)


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", 60) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with locked_file(tmp_path / "lock"):
            pass


def test_a_child_that_inherits_the_descriptor_holds_the_lock(tmp_path: Path) -> None:
    with locked_file(tmp_path / "lock") as descriptor:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    try:
        with pytest.raises(LockTaken), locked_file(tmp_path / "lock"):
            pass
    finally:
        child.kill()
        child.wait()
    with locked_file(tmp_path / "lock"):
        pass


def test_shared_locks_go_together_and_keep_a_writer_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as other, path.open() as writer:
        assert try_lock(first, shared=True)
        assert try_lock(other, shared=True)
        assert not try_lock(writer)


def test_no_other_module_locks_files() -> None:
    files = [file for top in ("fedpipe", "operations", "stages") for file in sorted((ROOT / top).rglob("*.py"))]
    by_hand = [str(file.relative_to(ROOT)) for file in files if "flock(" in file.read_text(encoding="utf-8")]
    assert by_hand == ["fedpipe/system/locks.py"]
