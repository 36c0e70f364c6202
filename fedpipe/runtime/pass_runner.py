"""Runs parts of a pass on a machine that has clients and no server: a cluster's worker, or a site."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.lazy import tff
from fedpipe.runtime.tff_executor import Compiled, Executor, Executors, fitting
from fedpipe.runtime.worker import Worker

How = Literal["whole", "first", "one by one"]
# The kernel ends a TFF worker with the thread that started it, and this thread ends with the process.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starts-tff-workers")


class TimeLimit(NamedTuple):
    """How long a part may take."""

    seconds: float
    key: str  # the setting, for messages


class LastingWorker:
    """A TFF worker that is started again when it has ended; it starts at once and loads in the background."""

    def __init__(self, log: Path) -> None:
        """``log``: the file for the worker's output."""
        self._log = log
        self._guard = threading.RLock()
        self._executors: Executors | None = None
        self._worker: Worker | None = self._start()

    def running(self) -> tuple[Worker, Executors]:
        """The worker and its executors, started again if it has ended.

        Raises:
          PipelineError: It cannot be started.
        """
        with self._guard:
            if self._worker is not None:
                try:
                    self._worker.check_alive()
                except PipelineError:
                    self.close()
            if self._worker is None:
                self._worker = self._start()
            if self._executors is None:
                self._worker.wait_until_ready()
                self._executors = Executors(self._worker)
            return self._worker, self._executors

    def is_alive(self) -> bool:
        """Whether the worker runs."""
        with self._guard:
            if self._worker is None:
                return False
            try:
                self._worker.check_alive()
            except PipelineError:
                return False
            return True

    def forget(self) -> None:
        """Forgets every value on the worker."""
        with self._guard:
            if self._executors is not None:
                self._executors.close()
            self._executors = None

    def close(self) -> None:
        """Ends the worker."""
        with self._guard:
            self.forget()
            if self._worker is not None:
                self._worker.stop()
            self._worker = None

    def _start(self) -> Worker:
        return _starter.submit(Worker, self._log).result()


class PassRunner:
    """The passes of a training on a worker: takes a message, and sums over groups of clients."""

    def __init__(
        self, worker: LastingWorker, passes: Callable[[], Sequence[Compiled]], limit: TimeLimit | None = None
    ) -> None:
        """``passes`` builds them, which loads TensorFlow while the worker starts."""
        self._worker, self._limit = worker, limit
        self._passes = passes()
        self._guard = threading.RLock()
        self._version = -1
        self._number = 0
        self._leaves: Sequence[np.ndarray] = ()
        self._values: dict[Executor, Any] = {}  # the message on each

    @property
    def passes(self) -> int:
        """How many passes there are."""
        return len(self._passes)

    def receive(self, version: int, number: int, leaves: Sequence[np.ndarray]) -> None:
        """Takes the message of pass ``number``; it stands until the next version.

        Raises:
          PipelineError: The algorithm lacks the pass, or the message does not fit it.
        """
        if not 0 <= number < len(self._passes):
            raise PipelineError(f"there is no pass {number} in this training")
        fitting(leaves, self._passes[number].message_type, "a message")
        with self._guard:
            self._version, self._number, self._leaves = version, number, leaves
            self._values = {}

    def compute(self, version: int, groups: list[np.ndarray], how: How) -> list[list[np.ndarray]]:
        """The leaves of one or more sums.

        Args:
          version: Of the message.
          groups: Of clients, each int32 [group, 4].
          how: ``whole`` and ``first`` give one sum over all groups, the first for a whole chunk; ``one by one`` gives a
            sum for each group.

        Raises:
          PipelineError: The message is another one by now, the worker ended, or a client failed.
        """
        with self._guard:
            if version != self._version:
                raise PipelineError(f"message {version} is not here")
            worker, executors = self._worker.running()
        with _ended_after(self._limit, worker):
            with self._guard:
                # Parts may have any number of groups, and each number has an executor of its own, which is not cheap.
                executor = executors.of(len(groups) if how == "whole" else 1)
                compiled, message = self._passes[self._number], self._message_at(executor)
                if how == "whole":
                    ids = executor.value(groups, compiled.groups_type)
                    sums = [executor.call(compiled.work, executor.struct(message, ids))]
                else:
                    kind = tff.FederatedType(compiled.groups_type.member, tff.SERVER)
                    each = [executor.struct(message, executor.value(group, kind)) for group in groups]
                    sums = [executor.call(compiled.work_alone, argument) for argument in each]
                    if how == "first":  # TFF also begins with zero
                        total = executor.call(compiled.zero)
                        for other in sums:
                            total = executor.call(compiled.merge, executor.struct(total, other))
                        sums = [total]
            return [[np.asarray(leaf) for leaf in executor.fetch(total)] for total in sums]

    def _message_at(self, executor: Executor) -> Any:
        """The message as a value of ``executor``."""
        if executor not in self._values:
            message_type = tff.FederatedType(self._passes[self._number].message_type, tff.SERVER)
            self._values[executor] = executor.value(tuple(self._leaves), message_type)
        return self._values[executor]


@contextmanager
def _ended_after(limit: TimeLimit | None, worker: Worker) -> Iterator[None]:
    """Ends ``worker`` if the block takes longer, so that the awaited call fails."""
    if limit is None:
        yield
        return
    late = threading.Event()

    def end() -> None:
        late.set()
        os.kill(worker.pid, signal.SIGKILL)

    timer = threading.Timer(limit.seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PipelineError as error:
        if late.is_set():
            raise PipelineError(f"it took more than {limit.seconds:g} s ({limit.key})") from error
        raise
    finally:
        timer.cancel()
