"""Chunks that wait for a worker, and the parts in which workers get them, so that all of them end a pass together.

A chunk goes to one worker as long as that is no more than the worker's share of the pass. Towards the end of a pass a
chunk is cut into parts of a few groups. That changes no bit: a chunk's sum is ((g1 + g2) + g3) + ... over its groups.
Its first part comes back as one sum. The other parts come back as one sum per group, and the driver adds those.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

Sums = list[list[np.ndarray]]  # the leaves of one or more sums

# Of a worker's share of what is left of a pass: how much it gets at once of a chunk that nobody has begun, and of the
# rest of a chunk, whose groups come back one by one. The parts become smaller and smaller, down to the least size.
_OF_A_CHUNK, _OF_A_REST = 0.75, 0.5
_LEAST_CLIENTS = 10


@dataclass(eq=False)
class Chunk:
    """Groups of clients whose sum is wanted."""

    groups: list[np.ndarray]
    parts: list["Part"] = field(default_factory=list)  # those that were handed out, in order
    begun: int = 0  # how many groups these have

    @property
    def is_done(self) -> bool:
        """Whether all its sums are there."""
        return self.begun == len(self.groups) and all(part.sums is not None for part in self.parts)

    def sums(self) -> Sums:
        """The sums to add, from left to right; none is kept."""
        arrived = [sums for part in self.parts for sums in part.sums or []]
        self.parts.clear()
        return arrived

    def clients_left(self) -> int:
        """The clients of the groups that nobody has begun."""
        return sum(map(len, self.groups[self.begun :]))


@dataclass(eq=False)
class Part:
    """Groups in a row, of one chunk."""

    chunk: Chunk
    groups: list[np.ndarray]
    one_by_one: bool  # whether each group's sum is wanted, because the part is not its chunk's first one
    sums: Sums | None = None  # when they are there
    failed_at: list[str] = field(default_factory=list)  # workers
    lost: int = 0  # how many workers were lost with it

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its chunk."""
        return len(self.groups) == len(self.chunk.groups)


class Waiting:
    """The parts that wait for a worker, in the order of the cohort."""

    def __init__(self) -> None:
        self._returned: deque[Part] = deque()
        self._chunks: deque[Chunk] = deque()
        self._left = 0  # clients of the pass that no part has, those of chunks to come among them

    def __bool__(self) -> bool:
        return bool(self._returned or self._chunks)

    def begin(self, clients: int) -> None:
        """Forgets all of it: a pass over so many ``clients`` begins."""
        self._returned.clear()
        self._chunks.clear()
        self._left = clients

    def add(self, chunk: Chunk) -> None:
        """A chunk waits."""
        self._chunks.append(chunk)

    def give_back(self, parts: Sequence[Part]) -> None:
        """Parts wait again, before all others."""
        self._returned.extendleft(reversed(parts))

    def take(self, worker: str, others: Collection[str], share: float) -> Part | None:
        """A part for ``worker``, if there is one for it.

        Args:
          worker: The address; a part that failed there is for one of the others, unless it failed at all of them, too.
          others: The addresses of the other workers that are ready.
          share: The worker's share of all workers' cores.
        """
        for part in self._returned:
            if worker not in part.failed_at or set(others) <= set(part.failed_at):
                self._returned.remove(part)
                return part
        if not self._chunks:
            return None
        # A chunk that nobody has begun comes first, because its first part comes back as one sum.
        chunk = next((chunk for chunk in self._chunks if not chunk.begun), self._chunks[0])
        fair, clients = share * self._left, chunk.clients_left()
        if clients > fair:
            fair *= _OF_A_REST if chunk.begun else _OF_A_CHUNK
        groups: list[np.ndarray] = []
        count = 0
        for group in chunk.groups[chunk.begun :]:
            if groups and count + len(group) > max(fair, _LEAST_CLIENTS):
                break
            groups.append(group)
            count += len(group)
        part = Part(chunk, groups, one_by_one=chunk.begun > 0)
        chunk.parts.append(part)
        chunk.begun += len(groups)
        self._left -= count
        if chunk.begun == len(chunk.groups):
            self._chunks.remove(chunk)
        return part
