"""One process at a time changes the model registry of a store, on this machine."""

import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.system.locks import lock
from fedpipe.tracking.outbox import without_password


@contextmanager
def registry_lock(store: str) -> Iterator[None]:
    """Waits for other processes that change the registry of a store, says so, and keeps them out until the block ends.

    It holds for all checkouts and users of this machine that name the store in the same way and have the same folder
    for temporary files; the kernel frees it however the holder ends. Other machines know nothing of it.

    Raises:
      PipelineError: The lock's file cannot be opened.
    """
    shown = without_password(store)
    path = _lock_file(shown)
    try:
        descriptor = _open(path)
    except OSError as error:
        raise PipelineError(f"{path}, which keeps two promotions apart, cannot be opened: {error.strerror}") from None
    try:
        waiting = f"waiting for another process that changes the registry of {shown}"
        lock(descriptor, math.inf, lambda: print(waiting, file=sys.stderr))
        yield
    finally:
        os.close(descriptor)


def _lock_file(shown: str) -> Path:
    store = hashlib.sha256(shown.rstrip("/").encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"fedpipe-registry-{store}.lock")


def _open(path: Path) -> int:
    """For reading, which is enough for a lock: the file may be another user's, and is never written."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o644)  # whatever the umask is: other users open it too
        return descriptor
