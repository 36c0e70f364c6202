"""One retraining at a time in a checkout."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fedpipe.errors import PipelineError
from fedpipe.system.locks import LockTaken, locked_file
from layout import LOGS

LOCK = LOGS / "retrain/lock"


@contextmanager
def exclusive_lock() -> Iterator[int]:
    """Keeps other retrainings out until the block ends, and yields the lock's descriptor.

    Commands that inherit the descriptor hold the lock too. So if a retraining was killed while its training runs, the
    next retraining has to wait for that training.

    Raises:
      PipelineError: Another retraining runs.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locked_file(LOCK))
        except LockTaken:
            raise PipelineError(
                "another retraining runs in this folder, or a step of one that was killed: wait until it has ended"
            ) from None
        yield descriptor
