"""The workers of a cluster as the driver sees them, and the chunks that they compute."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Fetched
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.cluster import member_side

if TYPE_CHECKING:
    from distributed import Client, Future

AT_ONCE = 2  # chunks at one worker: one is computed, the next one waits there
_names = itertools.count()


@dataclass(eq=False)
class Chunk:
    """Groups of clients whose sum is wanted."""

    groups: list[np.ndarray]
    leaves: Sequence[np.ndarray] | None = None  # the sum, when it is there
    failed_at: list[str] = field(default_factory=list)  # workers
    lost: int = 0  # how many workers were lost with it


@dataclass(frozen=True)
class Message:
    """What a pass tells its clients."""

    version: int
    number: int  # of the pass
    leaves: list[np.ndarray]


class Running:
    """A chunk at a worker."""

    def __init__(self, chunk: Chunk, future: "Future", since: float) -> None:
        self.chunk, self.future, self.since = chunk, future, since
        self.fetched: Fetched[Any] | None = None  # its sum on the way here

    def outcome(self, fetching: ThreadPoolExecutor) -> "tuple[str, Any]":
        """``waits``, ``done`` with the sum, ``failed`` with what is wrong, or ``lost``."""
        status = self.future.status
        if status == "error":
            return "failed", self.future.exception(timeout=5)
        if status in ("cancelled", "lost"):
            return "lost", None
        if status != "finished":
            return "waits", None
        if self.fetched is None:  # in a thread, because a worker that dies now would never answer
            self.fetched = fetching.submit(self.future.result)
        if not self.fetched.done():
            return "waits", None
        if self.fetched.exception():
            return "lost", None
        sum_or_error = self.fetched.result()
        return ("failed" if isinstance(sum_or_error, str) else "done"), sum_or_error


class Member:
    """A worker: it joins, takes messages, and runs chunks."""

    def __init__(self, client: "Client", address: str, name: str, job: str, since: float) -> None:
        self.address, self.name, self.since = address, name, since
        self._client, self._job = client, job
        self.running: list[Running] = []
        self.state = "joins"  # then `ready` or `refused`
        self._message: Future | None = None
        self._version = -1
        self._joining: Future | None = self._submit(member_side.join, job)

    def joined(self) -> list[str] | None:
        """What keeps the worker from joining, nothing if it may; None as long as it is not known."""
        future = self._joining
        if future is None or future.status == "pending":
            return None
        self._joining = None
        if future.status == "error":
            return [f"it could not get ready: {future.exception(timeout=5)}"]
        try:
            return list(future.result(timeout=5))
        except Exception as error:  # noqa: BLE001 - whatever Dask says of a worker that is just going
            return [f"it could not get ready: {error or type(error).__name__}"]

    def run(self, chunk: Chunk, message: Message, since: float, wake: Callable[[Any], None]) -> None:
        """Starts a chunk; the message goes out before it, unless it is there."""
        if self._version != message.version:
            self._message = self._submit(
                member_side.receive, self._job, message.version, message.number, message.leaves
            )
            self._version = message.version
        future = self._submit(member_side.compute, self._message, self._job, message.version, chunk.groups)
        future.add_done_callback(wake)
        self.running.append(Running(chunk, future, since))

    def drop(self) -> list[Chunk]:
        """Gives up what runs there, and returns it."""
        given_up = [one.chunk for one in self.running]
        for one in self.running:
            one.future.release()
        self.running, self._message, self._version = [], None, -1
        return given_up

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> "Future":
        return self._client.submit(
            function,
            *arguments,
            key=f"{function.__name__}-{self._client.id}-{next(_names)}",
            workers=[self.address],
            allow_other_workers=False,
            pure=False,
        )
