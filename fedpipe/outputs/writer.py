"""One process at a time writes a stage's outputs."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.system.locks import LockTaken, locked_file

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
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = stack.enter_context(locked_file(lock, patience))
        except LockTaken:
            holder = lock.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise PipelineError(
                f"another process (pid {holder}) runs the {stage} stage in this folder, and both would write the "
                "same outputs: wait until it has ended, or end it"
            ) from None
        except OSError as error:
            raise PipelineError(f"{lock}, which keeps two writers apart, cannot be opened: {error.strerror}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
