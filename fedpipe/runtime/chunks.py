"""Where a chunk of groups is computed: on the driver's own TFF worker, or on other machines.

The engine starts some chunks, and asks for their sums in the order of the cohort. Only it adds them up. So the bits are
the same wherever a chunk is computed, and whichever is ready first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedpipe.lazy import tff
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.tff_executor import Compiled, Executor, Executors, fitting


class Elsewhere(Protocol):
    """Other machines that compute chunks, such as fedpipe/cluster."""

    @property
    def ahead(self) -> int:
        """How many chunks may be started before the first one's sum is awaited."""

    def begin(self, kept: Path | None, fixed_point: FixedPoint | None) -> None:
        """Gets ready for a training.

        Args:
          kept: The folder of what clients keep, if they do.
          fixed_point: How the sum over a site's clients becomes integers, if sites send it in secure sums.
        """

    def begin_round(self, number: int) -> None:
        """Called before the round ``number`` (1 for the first)."""

    def make_personal(self, state: list[np.ndarray], last: np.ndarray) -> bool:
        """Has personal models made after the last round, where clients are; False if they are to be made here.

        Args:
          state: The leaves of the server's state.
          last: int32 [clients], the round of each client's last file, or -1.
        """

    def losses(self) -> "Elsewhere | None":
        """Where clients' losses are measured (loss_process.py); None for the driver's own worker."""

    def send(self, number: int, leaves: list[np.ndarray], clients: int) -> Any:
        """Takes the message of pass ``number``, which goes to so many ``clients``, and returns what stands for it.

        Earlier messages are forgotten.
        """

    def start(self, message: Any, groups: list[np.ndarray]) -> Any:
        """Starts a chunk and returns what stands for it."""

    def result(self, started: Any) -> Sequence[Sequence[np.ndarray]]:
        """Waits for a chunk that was started, and returns the leaves of the sums that make up its sum.

        The first is the sum of some of its groups, from the first on, or of all of them; then comes one for each of the
        others. They are added from left to right. One without leaves is zero: it is in the sum of another chunk.
        There are none if the site of its clients is lost in this round.
        """


class Chunks(Protocol):
    """The engine's interface to a backend that computes chunks."""

    @property
    def ahead(self) -> int:
        """How many chunks may be started before the first one's sum is awaited."""

    def message(self, number: int, value: Any, clients: int) -> Any:
        """Takes the message of pass ``number`` to so many ``clients``, and returns what stands for it.

        ``value`` is a value of the server's executor.
        """

    def start(self, number: int, message: Any, groups: list[np.ndarray]) -> Any:
        """Starts a chunk and returns what stands for it."""

    def sum(self, number: int, started: Any) -> Any:
        """Waits for a chunk, or all of them would be in memory at once; its sum is a value of the server's executor.

        None if its clients are lost in this round.
        """


class LocalChunks:
    """Chunks on the driver's own worker, one after the other.

    TFF answers a call when it is computed, so `start` takes as long as the chunk. Between chunks a core has nothing to
    do for 2 % of a round of 600 clients (four chunks); a round of 100 is one chunk. So there is no thread that would
    hand out the next one early.
    """

    ahead = 0

    def __init__(self, passes: Sequence[Compiled], executors: Executors, server: Executor) -> None:
        self._passes, self._executors, self._server = passes, executors, server

    def message(self, number: int, value: Any, clients: int) -> Any:
        """The value itself."""
        return value

    def start(self, number: int, message: Any, groups: list[np.ndarray]) -> tuple[Executor, Any]:
        """Hands ``groups`` to the worker; what comes back is the executor, and its value of their sum."""
        executor, compiled = self._executors.of(len(groups)), self._passes[number]
        if executor is not self._server:
            message = executor.copy(message)
        ids = executor.value(groups, compiled.groups_type)
        return executor, executor.call(compiled.work, executor.struct(message, ids))

    def sum(self, number: int, started: tuple[Executor, Any]) -> Any:
        """Waits for the sum."""
        executor, partial = started
        if executor is not self._server:
            return self._server.copy(partial)
        self._server.wait(partial)
        return partial


class RemoteChunks:
    """Chunks on other machines; the message leaves the driver's worker once a pass."""

    def __init__(self, passes: Sequence[Compiled], elsewhere: Elsewhere, server: Executor) -> None:
        self._passes, self._elsewhere, self._server = passes, elsewhere, server

    @property
    def ahead(self) -> int:
        """As many as the machines can take."""
        return self._elsewhere.ahead

    def message(self, number: int, value: Any, clients: int) -> Any:
        """Fetches the message and sends it on."""
        return self._elsewhere.send(number, [np.asarray(leaf) for leaf in self._server.fetch(value)], clients)

    def start(self, number: int, message: Any, groups: list[np.ndarray]) -> Any:
        """Hands ``groups`` out."""
        return self._elsewhere.start(message, groups)

    def sum(self, number: int, started: Any) -> Any:
        """Waits for the sum and brings it to the driver's worker, where the rest of a chunk that was cut is added."""
        server, compiled = self._server, self._passes[number]
        sum_type = tff.FederatedType(compiled.sum_type, tff.SERVER)
        sums = self._elsewhere.result(started)
        if not sums:
            return None
        total, *others = (
            server.value(tuple(fitting(leaves, compiled.sum_type, "a sum")), sum_type)
            if leaves
            else server.call(compiled.zero)
            for leaves in sums
        )
        for other in others:
            total = server.call(compiled.merge, server.struct(total, other))
        return total
