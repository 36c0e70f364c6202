"""Runs a training's process on a TFF worker, a cohort in chunks: fast, in one order, in memory that does not grow.

TFF's own context sends the weights and every graph anew each round, and holds all clients' updates at once. Here graphs
and server state stay on the worker; the cohort goes through in groups of clients, some groups at a time; and all sums
are merged in the order of the cohort. So results depend on `group_sizes` and `CHUNK`, not on the number of cores, and
so does the memory, not on the number of clients.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fedpipe.lazy import tff
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.learning.measurements import Measurement
from fedpipe.learning.process import Process
from fedpipe.runtime.chunks import Chunks, Elsewhere, LocalChunks, RemoteChunks
from fedpipe.runtime.phases import Phases
from fedpipe.runtime.tff_executor import Compiled, Executors, at_server
from fedpipe.runtime.totals import Total, TotalOfChunks, TotalOfSites
from fedpipe.runtime.worker import Worker
from fedpipe.system.signals import held

# The largest and smallest number of clients that one call of a graph takes, one after the other; and into how many
# parts the clients that are left are cut, so that groups become smaller and all cores end a round at the same time.
# Another value of these or of `CHUNK` adds in another order: other bits.
LARGEST_GROUP, SMALLEST_GROUP, PARTS = 10, 2, 6
# Groups that go to the worker at once. Each holds one accumulator.
CHUNK = 20


def group_sizes(clients: int) -> list[int]:
    """How many clients of a cohort each group has, in order: large groups first, small ones at the end."""
    sizes = []
    while clients:
        sizes.append(min(max(SMALLEST_GROUP, min(LARGEST_GROUP, clients // PARTS)), clients))
        clients -= sizes[-1]
    return sizes


def cut(requests: np.ndarray, site_of: np.ndarray | None) -> Iterator[list[np.ndarray]]:
    """The requests of a round as chunks of groups, in order; groups and chunks end where a site's clients end.

    A site sends one sum of a chunk, so no chunk holds clients of two sites.

    Args:
      requests: int32 [cohort, 4], of `WorkRequest.pack`, ascending by client.
      site_of: int64 [clients], the site of each client; None if all samples have one owner.
    """
    borders: Any = [] if site_of is None else np.flatnonzero(np.diff(site_of[requests[:, 0]])) + 1
    for part in np.split(requests, borders):
        sizes = group_sizes(len(part))
        groups = np.split(part, np.cumsum(sizes)[:-1])
        ends = range(CHUNK, len(groups) + CHUNK, CHUNK) if site_of is None else even_ends(sizes)
        for start, end in pairwise((0, *ends)):
            yield groups[start:end]


def even_ends(sizes: Sequence[int]) -> list[int]:
    """Where the chunks of a site's groups of these ``sizes`` end, so that each has about as many clients.

    They are as few as can be. A policy of the site looks at the clients of each (fedpipe/federation), and a last chunk
    of few would be held back.
    """
    count, clients = math.ceil(len(sizes) / CHUNK), np.cumsum(sizes)
    ends = [0]
    for number in range(1, count + 1):
        nearest = int(np.abs(clients - clients[-1] * number / count).argmin()) + 1
        left = count - number
        lowest, highest = len(sizes) - CHUNK * left, min(len(sizes) - left, ends[-1] + CHUNK)
        ends.append(min(max(nearest, ends[-1] + 1, lowest), highest))
    return ends[1:]


class Engine:
    """A training's process and its state on a worker."""

    def __init__(
        self,
        process: Process,
        worker: Worker,
        cohort: int,
        elsewhere: Elsewhere | None = None,
        phases: Phases | None = None,
        site_of: np.ndarray | None = None,
        fixed_point: FixedPoint | None = None,
    ) -> None:
        """Starts a training.

        Args:
          process: The model and the algorithm.
          worker: Has the state, and adds up what clients send.
          cohort: How many clients a round has; the state stays with the worker's executor for chunks of that size.
          elsewhere: Where clients run, if not on ``worker``.
          phases: Counts where a round's time goes.
          site_of: As of `cut`.
          fixed_point: Rounds the sum over each site's clients, as the site of a federation does that sums securely.
            Only with ``site_of``, and where the sites do not do it themselves.
        """
        self._process, self._phases = process, phases or Phases()
        self._site_of, self._fixed_point = site_of, fixed_point
        self._passes = [Compiled(each) for each in process.passes]
        self._get_weights = at_server(process.get_weights)
        self._executors = Executors(worker)
        self._server = self._executors.of(min(CHUNK, max(len(group_sizes(cohort)), 1)))
        self._chunks: Chunks = (
            LocalChunks(self._passes, self._executors, self._server)
            if elsewhere is None
            else RemoteChunks(self._passes, elsewhere, self._server)
        )
        self._state = self._before = self._server.call(at_server(process.initialize))
        self.rounds = 0  # completed by this engine
        self.lost_from = np.zeros(0, np.int32)  # of the last round's requests, as of `run_round`

    @property
    def passes(self) -> int:
        """How many passes a round has."""
        return len(self._passes)

    def run_round(
        self,
        requests: np.ndarray,
        done: Callable[[int], None] = lambda clients: None,
        lost_from: np.ndarray | None = None,
    ) -> dict[str, Measurement]:
        """Runs one round of work ``requests`` and returns what its last pass measured, by name.

        Args:
          requests: int32 [cohort, 4], of `WorkRequest.pack`; there may be none.
          done: Called with the number of clients of a pass that have ended, as chunks come back.
          lost_from: int32 [cohort], the number of the pass from which on each of them is lost, `passes` for never;
            None for nobody. Afterwards the engine's ``lost_from`` also has those of sites that were lost meanwhile.

        Raises:
          PipelineError: The worker ended, or a client failed (its shard is unreadable, for instance).
        """
        server, state, measured = self._server, self._state, None
        self.lost_from = np.full(len(requests), self.passes, np.int32) if lost_from is None else lost_from.copy()
        for number, compiled in enumerate(self._passes):
            total, lost = self._sum(number, state, requests[self.lost_from > number], done)
            self.lost_from[np.isin(requests[:, 0], lost) & (self.lost_from > number)] = number
            result = server.call(compiled.update, server.struct(state, total))
            state, measured = server.select(result, 0), server.select(result, 1)
        with self._phases.timed("aggregate"):
            values = server.fetch(measured)
        with held():
            self._before, self._state, self.rounds = self._state, state, self.rounds + 1
        measurements: dict[str, Measurement] = self._process.measurements.pack(values)
        self._phases.split_clients(measurements)  # takes out the clients' times
        return measurements

    def weights(self) -> list[np.ndarray]:
        """The global model's weights, float32 arrays in the model's order."""
        return list(self._server.fetch(self._server.call(self._get_weights, self._state)))

    def state(self, before_last: bool = False) -> list[np.ndarray]:
        """Every leaf of the server's state, in an order that depends on the process only.

        Args:
          before_last: The state before the last round instead of the one after it.
        """
        leaves = self._server.fetch(self._before if before_last else self._state)
        return [np.asarray(leaf) for leaf in leaves]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Resumes from a `state`."""
        kind = tff.FederatedType(self._process.server.type, tff.SERVER)
        self._state = self._before = self._server.value(tuple(state), kind)

    def rewind(self, rounds: int) -> None:
        """Goes back to the state after ``rounds`` rounds, the last one or the one before it."""
        if self.rounds > rounds:
            self._state, self.rounds = self._before, rounds

    def close(self) -> None:
        """Lets go of everything on the worker; call it before the worker ends, or after."""
        self._executors.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sum(self, number: int, state: Any, requests: np.ndarray, done: Callable[[int], None]) -> tuple[Any, list[int]]:
        """The accumulator of pass ``number`` over ``requests``, as a value of the executor that has the state.

        The second result are the ids of clients that were lost with their site: they are not in it.
        """
        server, compiled, chunks = self._server, self._passes[number], self._chunks
        lost: list[int] = []
        if not len(requests):
            return server.call(compiled.zero), lost
        message = chunks.message(number, server.call(compiled.prepare, state), len(requests))
        total = self._total(compiled)
        ended = 0
        started: deque[tuple[list[np.ndarray], Any]] = deque()
        all_chunks = list(cut(requests, self._site_of))
        for place, chunk in enumerate(all_chunks, 1):
            with self._phases.timed("clients"):  # on the driver's own worker, this is where the time goes
                started.append((chunk, chunks.start(number, message, chunk)))
            is_last = place == len(all_chunks)
            while started and (is_last or len(started) > chunks.ahead):
                groups, handed_out = started.popleft()
                with self._phases.timed("clients"):
                    partial = chunks.sum(number, handed_out)
                if partial is None:
                    lost += np.concatenate(groups)[:, 0].tolist()
                else:
                    total.add(groups, partial)
                ended += sum(map(len, groups))
                done(ended)
        return total.result(), lost

    def _total(self, compiled: Compiled) -> Total:
        """Adds up chunks."""
        if self._fixed_point is None or self._site_of is None:
            return TotalOfChunks(self._server, compiled)
        return TotalOfSites(self._server, compiled, self._fixed_point, self._site_of)
