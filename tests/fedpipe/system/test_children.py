"""A child process ends with the process that started it, on request, or by force."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedpipe.system.children import end_child, how_it_ended, start_child
from tests import ROOT

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)
PARENT = """
import sys, time
from pathlib import Path
from fedpipe.system.children import start_child
print(start_child(["/bin/sleep", "60"], Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def wait_until_ready(log: Path) -> None:
    deadline = time.monotonic() + 20
    while "ready" not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_child_leads_a_process_group_and_writes_to_its_log(tmp_path: Path) -> None:
    child = start_child([sys.executable, "-c", "import os; print(os.getpgrp())"], tmp_path / "log")
    assert child.wait() == 0
    assert (tmp_path / "log").read_text(encoding="utf-8") == f"{child.pid}\n"


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        if parent.stdout is None:
            raise AssertionError("no output")
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    child = start_child([sys.executable, "-c", STUBBORN], tmp_path / "log")
    wait_until_ready(tmp_path / "log")
    end_child(child, patience=0.2)
    assert child.returncode == -signal.SIGKILL


def test_a_child_that_obeys_is_not_killed(tmp_path: Path) -> None:
    child = start_child(["/bin/sleep", "60"], tmp_path / "log")
    while Path(f"/proc/{child.pid}/exe").readlink().name.startswith("python"):
        time.sleep(0.02)  # until the launcher has become the command
    end_child(child, patience=20)
    assert child.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("code", "words"), [(-9, "was ended by SIGKILL"), (3, "ended with exit code 3")])
def test_an_exit_code_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
