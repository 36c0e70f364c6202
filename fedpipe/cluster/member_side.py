"""A Dask worker's side of a training: it has a TFF worker of its own, sandboxed like the driver's, and runs chunks.

The driver's tasks call `join`, `receive` and `compute`. The process of the training is built anew from the settings,
so no graph travels, and each machine's graphs read its own shards.
"""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.cluster.parts import Sums
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.params import parse
from fedpipe.pinning import require_avx2
from fedpipe.runtime.facts import CLUSTER, Facts, code, differences, facts

if TYPE_CHECKING:
    from fedpipe.runtime.pass_runner import How
    from fedpipe.runtime.tff_executor import Compiled

# Set by fedpipe/cluster/processes.py before the worker joins.
shards = Path()
logs = Path()
code_at_start = ""  # `fedpipe.runtime.facts.code`

_current: "RunningJob | None" = None
_verified: set[tuple[Path, str]] = set()
_lock = threading.RLock()


@dataclass(frozen=True)
class Job:
    """A training, as workers receive it."""

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
    """A file beside the folder of client state, by which a worker knows that it sees the driver's."""
    return kept.with_name(f"{kept.name}.shared")


def join(job: str) -> list[str]:
    """Gets this worker ready for a job; returns the obstacles, none if it is ready."""
    parsed = Job(**json.loads(job))
    try:
        settings = parse(Train, parsed.settings)
        wrong = differences(parsed.facts, facts(settings, CLUSTER)) + _wrong_data(parsed)
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


def compute(received: None, job: str, version: int, groups: list[np.ndarray], how: "How") -> Sums | str:
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
    """The faults of the shards here, and of the folder of client state."""
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
        from fedpipe.runtime.pass_runner import LastingWorker, PassRunner, TimeLimit

        self.job = job
        self._parsed = Job(**json.loads(job))
        self._worker = LastingWorker(logs / f"worker-{os.getpid()}.log")
        limit = TimeLimit(self._parsed.chunk_seconds, "chunk_seconds in cluster.yaml")
        self._runner = PassRunner(self._worker, self._built, limit)
        self._worker.running()

    def receive(self, version: int, number: int, leaves: Sequence[np.ndarray]) -> None:
        """Takes a message."""
        self._runner.receive(version, number, leaves)

    def compute(self, version: int, groups: list[np.ndarray], how: "How") -> Sums:
        """The sums over a part of a chunk."""
        return self._runner.compute(version, groups, how)

    def close(self) -> None:
        """Ends the TFF worker; values are forgotten first."""
        self._worker.close()

    def _built(self) -> "list[Compiled]":
        """The passes of the training."""
        from fedpipe.learning.wiring import Wiring
        from fedpipe.runtime.tff_executor import Compiled

        settings = parse(Train, self._parsed.settings)
        # The driver has the weights of the server; a client's work does not depend on the ones that are drawn here.
        wiring = Wiring.of(settings, shards.resolve(), Path(self._parsed.kept) if self._parsed.kept else None)
        return [Compiled(each) for each in wiring.process.passes]
