"""One retraining at a time in a checkout."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpipe.errors import PipelineError

LOCK = Path("logs/retrain/lock")


@contextmanager
def alone() -> Iterator[int]:
    """Keeps other retrainings out until the block ends, and yields the lock's descriptor.

    Commands that are started with the descriptor hold the lock too: where a retraining was killed but the training that
    it had started goes on, the next one has to wait for it.

    Raises:
      PipelineError: Another retraining runs.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                "another retraining runs in this folder, or a step of one that was killed: wait until it has ended"
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
