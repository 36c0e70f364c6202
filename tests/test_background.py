"""The tests pass where a shell has started them in the background, which makes them ignore Ctrl-C."""

import os
import signal
import subprocess
import sys

from tests import ROOT


def test_tests_that_send_ctrl_c_pass_in_the_background() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/stages/test_process.py",
            "-k",
            "ctrl_c",
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
