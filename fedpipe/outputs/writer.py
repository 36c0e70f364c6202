"""One process at a time writes a stage's outputs."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpipe.errors import PipelineError

_PATIENCE_SECONDS = 5.0  # how long a stage that was killed may take to end


@contextmanager
def only_writer(stage: str, lock: Path, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Keeps other processes from writing the outputs of ``stage`` in this folder until the block ends.

    The kernel frees the lock however its holder ends.

    Args:
      stage: The stage's name.
      lock: The file that is locked; made where it is not there.
      patience: How many seconds to wait for another writer to end.

    Raises:
      PipelineError: Another process writes them, or the lock's file cannot be opened.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PipelineError(f"{lock}, which keeps two writers apart, cannot be opened: {error.strerror}") from None
    try:
        deadline = time.monotonic() + patience
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                holder = lock.read_text(encoding="ascii", errors="replace").strip() or "unknown"
                raise PipelineError(
                    f"another process (pid {holder}) runs the {stage} stage in this folder, and both would write the "
                    "same outputs: wait until it has ended, or end it"
                )
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
