"""The workers of a cluster as the driver sees them, and the parts of chunks that they compute."""

import itertools
from collections.abc import Callable
from concurrent.futures import Future as Fetched
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.cluster import member_side
from fedpipe.cluster.parts import Part

if TYPE_CHECKING:
    from distributed import Client, Future

AT_ONCE = 2  # parts at one worker at least: one is computed, the next one waits there
_names = itertools.count()


@dataclass(frozen=True)
class Message:
    """A pass's message to its clients."""

    version: int
    number: int  # of the pass
    leaves: list[np.ndarray]


class Running:
    """A part at a worker."""

    def __init__(self, part: Part, future: "Future", since: float) -> None:
        self.part, self.future, self.since = part, future, since
        self.fetched: Fetched[Any] | None = None  # its sums on the way here

    def outcome(self, fetching: ThreadPoolExecutor, wake: Callable[[Any], None]) -> "tuple[str, Any]":
        """``waits``, ``done`` with the sums, ``failed`` with an error, or ``lost``; ``wake`` says when to ask."""
        status = self.future.status
        if status == "error":
            return "failed", self.future.exception(timeout=5)
        if status in ("cancelled", "lost"):
            return "lost", None
        if status != "finished":
            return "waits", None
        if self.fetched is None:  # in a thread, because a worker that dies now would never answer
            self.fetched = fetching.submit(self.future.result)
            self.fetched.add_done_callback(wake)
        if not self.fetched.done():
            return "waits", None
        if self.fetched.exception():
            return "lost", None
        sums_or_error = self.fetched.result()
        return ("failed" if isinstance(sums_or_error, str) else "done"), sums_or_error


class Member:
    """A worker: it joins, takes messages, and runs parts."""

    def __init__(self, client: "Client", address: str, slots: int, job: str, since: float) -> None:
        self.address, self.since = address, since
        self.slots = slots  # groups that keep all its cores busy
        self._client, self._job = client, job
        self.running: list[Running] = []
        self.state = "joins"  # then `ready` or `refused`
        self._message: Future | None = None
        self._version = -1
        self._joining: Future | None = self._submit(member_side.join, job)

    def joined(self) -> list[str] | None:
        """The obstacles to the worker's joining, empty if it may join; None as long as they are not known."""
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

    @property
    def load(self) -> float:
        """How many groups are there per slot."""
        return sum(len(run.part.groups) for run in self.running) / self.slots

    @property
    def has_room(self) -> bool:
        """Whether it gets another part."""
        return self.state == "ready" and (len(self.running) < AT_ONCE or self.load < 1)

    def run(self, part: Part, message: Message, since: float, wake: Callable[[Any], None]) -> None:
        """Starts a part; the message goes out before it, unless it is there."""
        if self._version != message.version:
            self._message = self._submit(
                member_side.receive, self._job, message.version, message.number, message.leaves
            )
            self._version = message.version
        how = "one by one" if part.one_by_one else "whole" if part.is_whole else "first"
        future = self._submit(member_side.compute, self._message, self._job, message.version, part.groups, how)
        future.add_done_callback(wake)
        self.running.append(Running(part, future, since))

    def drop(self) -> list[Part]:
        """Gives up what runs there, and returns it."""
        given_up = [run.part for run in self.running]
        for run in self.running:
            run.future.release()
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
