"""What a Dask worker does for a training: it has a TFF worker of its own, shut in like the driver's, and runs chunks.

The driver's tasks call `join`, `receive` and `compute`. The process of the training is built anew from the settings,
so no graph travels, and each machine's graphs read its own shards.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedpipe.cluster.facts import Facts, code, differences, facts
from fedpipe.cluster.parts import Sums
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.lazy import tff
from fedpipe.params import parse
from fedpipe.pinning import require_avx2
from fedpipe.runtime.worker import Worker

if TYPE_CHECKING:
    from fedpipe.runtime.tff_executor import Compiled, Executor, Executors

How = Literal["whole", "first", "one by one"]

# Set by fedpipe/cluster/processes.py before the worker joins.
shards = Path()
logs = Path()
code_at_start = ""  # `fedpipe.cluster.facts.code`

_current: "RunningJob | None" = None
_verified: set[tuple[Path, str]] = set()
_lock = threading.RLock()
# The kernel ends a TFF worker with the thread that started it, and this thread ends with the process.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starts-tff-workers")


@dataclass(frozen=True)
class Job:
    """A training, as workers are told of it."""

    run: str  # tells one driver's run from another's
    settings: dict[str, Any]  # section train of params.yaml
    data: str  # the digest of the shards
    facts: Facts  # of the driver
    kept: str | None  # the folder of what clients keep
    token: str  # the content of `probe` of that folder
    chunk_seconds: float

    def to_json(self) -> str:
        """As text, so that it can be a key, too."""
        return json.dumps(asdict(self), sort_keys=True)


def probe(kept: Path) -> Path:
    """A file beside the folder of what clients keep, by which a worker knows that it sees the driver's."""
    return kept.with_name(f"{kept.name}.shared")


def join(job: str) -> list[str]:
    """Gets this worker ready for a job; returns what keeps it from that, nothing if it is ready."""
    told = Job(**json.loads(job))
    try:
        settings = parse(Train, told.settings)
        wrong = differences(told.facts, facts(settings)) + _wrong_data(told)
        if code() != code_at_start:
            wrong.append("its code has changed since it was started (start it again)")
        if not wrong:
            require_avx2()
            _running_job(job)
    except (PipelineError, ValueError, OSError) as error:
        return [str(error)]
    return wrong


def receive(job: str, version: int, number: int, leaves: Sequence[np.ndarray]) -> None:
    """Takes the message of pass ``number``; it stands until the next version."""
    _running_job(job).receive(version, number, leaves)


def compute(received: None, job: str, version: int, groups: list[np.ndarray], how: How) -> Sums | str:
    """The sums over a part of a chunk, or what went wrong: the TFF worker ended, or a client failed.

    Args:
      received: The result of `receive`.
      job: The job.
      version: Of the message.
      groups: Of clients.
      how: ``whole`` and ``first`` give one sum over all groups, the first for a whole chunk; ``one by one`` gives a sum
        for each group.
    """
    try:
        return _running_job(job).compute(version, groups, how)
    except PipelineError as error:  # as text, for not every exception that caused it can travel
        return str(error)


def close() -> None:
    """Ends the TFF worker."""
    global _current
    with _lock:
        if _current is not None:
            _current.close()
        _current = None


def _running_job(job: str) -> "RunningJob":
    """The job on this machine, started if it is not; another one is closed."""
    global _current
    with _lock:
        if _current is None or _current.job != job:
            close()
            _current = RunningJob(job)
        return _current


def _wrong_data(job: Job) -> list[str]:
    """What is wrong with the shards here, and with the folder of what clients keep."""
    here = Manifest.read(shards)
    if here.digest != job.data:
        return [f"shards ({here.digest[:12]} in {shards}, here {job.data[:12]})"]
    if (shards, here.digest) not in _verified:
        verify_shards(shards, here)
        _verified.add((shards, here.digest))
    if job.kept is not None:
        try:
            token = probe(Path(job.kept)).read_text(encoding="utf-8")
        except OSError:
            token = ""
        if token != job.token:
            return [f"the shared folder ({job.kept} is not there, or another folder than the driver's)"]
    return []


class RunningJob:
    """A job on this machine: its TFF worker, which is started again when it ends, and its process."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._told = Job(**json.loads(job))
        self._worker: Worker | None = None
        self._executors: Executors | None = None
        self._guard = threading.RLock()
        self._version = -1
        self._number = 0
        self._leaves: Sequence[np.ndarray] = ()
        self._values: dict[Executor, Any] = {}  # the message on each
        worker = self._start()
        self._passes = self._built()  # TensorFlow loads while the worker starts
        worker.wait_until_ready()

    def receive(self, version: int, number: int, leaves: Sequence[np.ndarray]) -> None:
        """Takes a message."""
        with self._guard:
            self._version, self._number, self._leaves = version, number, leaves
            self._values = {}

    def compute(self, version: int, groups: list[np.ndarray], how: How) -> Sums:
        """The sums over a part of a chunk."""
        with self._guard:
            if version != self._version:
                raise PipelineError(f"message {version} is not here")
            worker, executors = self._running()
        with _ended_after(self._told.chunk_seconds, worker):
            with self._guard:
                # Parts may have any number of groups, and each number has an executor of its own, which is not cheap.
                executor = executors.of(len(groups) if how == "whole" else 1)
                one, message = self._passes[self._number], self._message_at(executor)
                if how == "whole":
                    ids = executor.value(groups, one.groups_type)
                    sums = [executor.call(one.work, executor.struct(message, ids))]
                else:
                    kind = tff.FederatedType(one.groups_type.member, tff.SERVER)
                    each = [executor.struct(message, executor.value(group, kind)) for group in groups]
                    sums = [executor.call(one.work_alone, argument) for argument in each]
                    if how == "first":  # TFF also begins with zero
                        total = executor.call(one.zero)
                        for other in sums:
                            total = executor.call(one.merge, executor.struct(total, other))
                        sums = [total]
            return [[np.asarray(leaf) for leaf in executor.fetch(total)] for total in sums]

    def _message_at(self, executor: "Executor") -> Any:
        """The message as a value of ``executor``."""
        if executor not in self._values:
            message_type = tff.FederatedType(self._passes[self._number].message_type, tff.SERVER)
            self._values[executor] = executor.value(tuple(self._leaves), message_type)
        return self._values[executor]

    def close(self) -> None:
        """Ends the TFF worker; values are forgotten first."""
        with self._guard:
            if self._executors is not None:
                self._executors.close()
            if self._worker is not None:
                self._worker.stop()
            self._worker = self._executors = None
            self._values = {}

    def _running(self) -> "tuple[Worker, Executors]":
        """The TFF worker and its executors, started again if it has ended."""
        if self._worker is not None:
            try:
                self._worker.check_alive()
            except PipelineError:
                self.close()
        if self._worker is None:
            self._start().wait_until_ready()
        from fedpipe.runtime.tff_executor import Executors

        if self._worker is None:
            raise PipelineError("the TFF worker could not be started")
        if self._executors is None:
            self._executors = Executors(self._worker)
        return self._worker, self._executors

    def _start(self) -> Worker:
        self._worker = _starter.submit(Worker, logs / f"worker-{os.getpid()}.log").result()
        return self._worker

    def _built(self) -> "list[Compiled]":
        """The passes of the training."""
        from fedpipe.learning.wiring import Wiring
        from fedpipe.runtime.tff_executor import Compiled

        settings = parse(Train, self._told.settings)
        # The driver has the weights of the server; a client's work does not depend on the ones that are drawn here.
        wiring = Wiring.of(settings, shards.resolve(), Path(self._told.kept) if self._told.kept else None)
        return [Compiled(one) for one in wiring.process.passes]


@contextmanager
def _ended_after(seconds: float, worker: Worker) -> Iterator[None]:
    """Ends ``worker`` if the block takes longer, which makes what the block waits for fail."""
    late = threading.Event()

    def end() -> None:
        late.set()
        os.kill(worker.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PipelineError as error:
        if late.is_set():
            raise PipelineError(f"it took more than {seconds:g} s (chunk_seconds in cluster.yaml)") from error
        raise
    finally:
        timer.cancel()
