"""The worker never outlives the run, however the run ends."""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests import ROOT

DRIVER = """
import sys, time
from pathlib import Path
from fedpipe.runtime.worker import Worker
with Worker(Path(sys.argv[1])) as worker:
    worker.wait_until_ready()
    print(worker.pid, flush=True)
    {ending}
"""


def gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def start(tmp_path: Path, ending: str) -> tuple[subprocess.Popen[str], int]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(ending=ending), str(tmp_path / "worker.log")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert driver.stdout is not None
    return driver, int(driver.stdout.readline())


@pytest.mark.parametrize("ending", ["pass", "raise ValueError", "sys.exit(3)"])
def test_ends_with_the_driver(tmp_path: Path, ending: str) -> None:
    driver, pid = start(tmp_path, ending)
    # communicate() ends only when nobody holds the pipe open any more: `dvc repro | cat` ends.
    driver.communicate(timeout=20)
    assert gone(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ends_with_a_killed_driver(tmp_path: Path, number: signal.Signals) -> None:
    driver, pid = start(tmp_path, "time.sleep(60)")
    assert psutil.pid_exists(pid)
    os.kill(driver.pid, number)
    driver.communicate(timeout=20)
    assert gone(pid)


def test_says_how_it_ended(tmp_path: Path) -> None:
    with Worker(tmp_path / "worker.log") as worker:
        worker.wait_until_ready()
        worker.check_alive()
        os.kill(worker.pid, signal.SIGTERM)
        with pytest.raises(PipelineError, match=r"ended by SIGTERM; its log is .*worker.log"):
            worker.check_alive(grace=5.0)
        worker.stop()


def test_environment_is_pinned_in_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a program sets variables after `fedpipe.pin`."""
    from fedpipe.pinning import PINNED

    hostile = {"TF_DETERMINISTIC_OPS": "1", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA", "XLA_FLAGS": "--nonsense"}
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    with Worker(tmp_path / "worker.log") as worker:
        worker.wait_until_ready()  # in the middle of an exec a process has no environment to show
        environment = psutil.Process(worker.pid).environ()
    assert PINNED.items() <= environment.items() and not hostile.keys() & environment.keys()


def test_takes_memory_from_glibc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which each thread has its own; that it is faster, `make bench ARGS=worker_memory` shows."""
    monkeypatch.delenv("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", raising=False)
    with Worker(tmp_path / "worker.log") as worker:
        worker.wait_until_ready()  # before, it may be the program that starts it
        environment = psutil.Process(worker.pid).environ()
        binary = psutil.Process(worker.pid).exe()
        maps = Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")
    switch = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
    assert environment[switch] == "1" and {name for name in environment if name.startswith("MALLOC_")}
    assert "libc.so.6" in maps
    with Path(binary).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content.find(switch.encode()) >= 0  # else TensorFlow knows it no more
