"""The tests pass where a shell has started them in the background or under nohup, which makes them ignore signals."""

import os
import signal
import subprocess
import sys

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow


def _ignore() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_tests_that_send_signals_pass_in_the_background() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/stages/test_process.py",
            "tests/fedpipe/runtime/test_worker.py",
            "-k",
            "ctrl_c or killed_driver",
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_ignore,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
