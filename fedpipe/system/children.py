"""Child processes of a command: they end with it, however it ends, and Ctrl-C at the terminal is not for them."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fedpipe.system.launch import ending_with_us

Child = subprocess.Popen[bytes]


def start_child(
    command: Sequence[str],
    log: Path,
    *,
    last: signal.Signals = signal.SIGKILL,
    user: str = "",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Starts ``command``, which leads a process group of its own.

    Args:
      command: Path of a binary, and its arguments.
      log: The file for its output, written anew.
      last: The signal that it gets when this process is gone.
      user: The system's user to run it as, which only root may name; empty for this process's own.
      folder: Where it runs; by default here.
      environment: Its variables; by default this process's.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            ending_with_us(command, last, user),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )


def end_child(child: Child, patience: float) -> None:
    """Asks ``child`` to end, and kills its group after ``patience`` seconds; waits for it."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(patience)
    kill_group(child)


def kill_group(child: Child) -> None:
    """Kills ``child`` and all that is left of the process group that it leads; waits for it."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def how_it_ended(code: int) -> str:
    """An exit code of `subprocess` in words: ``was ended by SIGKILL``, or ``ended with exit code 1``."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
