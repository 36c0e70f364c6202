"""A package manager's command, run in a folder of its own, bounded in time, and ended with all that it started."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from fedpipe.datasets.sources.source import SourceFailed
from fedpipe.system.children import kill_group

# They show no progress that could be measured, so a whole command gets a limit.
TIME_LIMIT = 300.0  # seconds


def run(
    command: Sequence[str],
    folder: Path,
    gist: Callable[[str], str],
    time_limit: float = TIME_LIMIT,
    output: Path | None = None,
) -> None:
    """Runs ``command`` in ``folder``.

    Args:
      command: The program and its arguments; messages name the first two.
      folder: Where it runs.
      gist: What of its standard error to tell people.
      time_limit: Seconds.
      output: The file that its standard output goes to, if it is wanted.

    Raises:
      SourceFailed: The program is not installed, fails, or takes too long.
    """
    program, name = command[0], " ".join(command[:2])
    path = shutil.which(program)
    if path is None:
        raise SourceFailed(f"{program} is not installed")
    with (output or Path(os.devnull)).open("wb") as out:
        try:
            # A session of its own, so that what the program itself started can be ended with it.
            process = subprocess.Popen(
                [path, *command[1:]],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceFailed(f"{program} cannot be started: {error.strerror}") from None
        try:
            errors = process.communicate(timeout=time_limit)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            raise SourceFailed(f"{name} took longer than {time_limit:g} s") from None
        finally:
            if process.poll() is None:  # too slow, or Ctrl-C in the meantime
                kill_group(process)
    if process.returncode != 0:
        raise SourceFailed(f"{name} failed: {gist(errors)[:200] or f'exit code {process.returncode}'}")
