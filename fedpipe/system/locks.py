"""Locks between processes: on a file, and freed by the kernel however their holder ends."""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_POLL_SECONDS = 0.05


class LockTaken(Exception):
    """Another process holds the lock."""


def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Takes the lock on an open file, unless another process holds it.

    Args:
      file: An open file, or its descriptor. The lock ends when it is closed.
      shared: Whether others may take it with ``shared``, too.

    Returns:
      Whether the lock was free.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: IO[Any] | int, patience: float = 0.0, on_wait: Callable[[], None] | None = None) -> None:
    """Takes the lock on an open file, and waits for another holder.

    Args:
      file: As of `try_lock`.
      patience: Seconds to wait; ``math.inf`` waits until the lock is free.
      on_wait: Called once before it waits.

    Raises:
      LockTaken: Another process still holds the lock.
    """
    if try_lock(file):
        return
    if patience and on_wait is not None:
        on_wait()
    if math.isinf(patience):
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        if try_lock(file):
            return
    raise LockTaken


@contextmanager
def locked_file(path: Path, patience: float = 0.0, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Holds the lock on the file ``path`` until the block ends.

    The file is made where it is missing; ``patience`` and ``on_wait`` are those of `lock`.

    Yields:
      The file's descriptor, for reading and writing. A child that inherits it holds the lock, too.

    Raises:
      LockTaken: Another process holds the lock.
      OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        lock(descriptor, patience, on_wait)
        yield descriptor
    finally:
        os.close(descriptor)
