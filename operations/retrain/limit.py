"""`dvc repro` with a time limit: a stage running then gets a signal, so that a training saves a checkpoint."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil

from fedpipe.errors import PipelineError

_POLL_SECONDS = 1.0


class Limit:
    """The end of the time that a retraining may train for, counted from when it was made."""

    def __init__(self, minutes: float | None) -> None:
        """A limit of ``minutes``; None is none."""
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.minutes = minutes

    def has_come(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    @staticmethod
    def of(option: float | None) -> "Limit":
        """The limit of the command line, else of FEDPIPE_MINUTES.

        Raises:
          PipelineError: It is no number above 0.
        """
        text = os.environ.get("FEDPIPE_MINUTES", "") if option is None else str(option)
        if not text:
            return Limit(None)
        try:
            minutes = float(text)
        except ValueError:
            minutes = math.nan
        if not minutes > 0:
            raise PipelineError(
                f"the time limit (--minutes, FEDPIPE_MINUTES) is '{text}': should be minutes, such as 150"
            )
        return Limit(minutes)


def repro(limit: Limit, lock: int, on_first_stage: Callable[[], None]) -> bool:
    """Runs ``dvc repro``.

    Args:
      limit: When to ask the running stage to end.
      lock: Descriptor of the retraining's lock, which the command holds, too.
      on_first_stage: Called once, when a stage really runs.

    Returns:
      Whether all stages are done; False if the limit came before.

    Raises:
      PipelineError: A stage failed.
    """
    command = [sys.executable, "-m", "dvc", "repro"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=[lock]
    ) as running:
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(running.pid, limit, ended), daemon=True)
        watch.start()
        ran = False
        for line in running.stdout or ():
            print(line, end="", file=sys.stderr, flush=True)
            if line.startswith("Running stage") and not ran:
                ran = True
                on_first_stage()
        running.wait()
        ended.set()
    if not running.returncode:
        return True
    if limit.has_come():
        return False
    raise PipelineError("`dvc repro` failed (its words are above); put that right, and `make retrain` resumes")


def _watch(dvc: int, limit: Limit, ended: threading.Event) -> None:
    while not ended.wait(_POLL_SECONDS):
        if limit.has_come():
            _end_stage(dvc)


def _end_stage(dvc: int) -> None:
    """Sends SIGTERM to the stages that DVC runs; DVC itself then reports that the stage failed."""
    try:
        processes = psutil.Process(dvc).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            if any(word.startswith("stages.") for word in process.cmdline()):
                process.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
