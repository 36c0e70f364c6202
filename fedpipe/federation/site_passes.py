"""Passes over the sites of a federation: chunks are noted, and go out together when the first result is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.learning.fixed_point import FixedPoint

if TYPE_CHECKING:
    from fedpipe.federation.coordinator import Federation

ALL_CHUNKS = 2**31  # chunks of a pass that are started before the first result is wanted


@dataclass(eq=False)
class Chunk:
    """A chunk of one site's clients, and its sum when it is here: without leaves if it is in another one's."""

    site: str
    groups: list[np.ndarray]
    sums: list[np.ndarray] | None = None  # stays None where the site is lost


class SitePasses:
    """The passes of one process over the sites of a federation: an `Elsewhere`."""

    ahead = ALL_CHUNKS

    def __init__(self, federation: "Federation", process: Literal["training", "losses"]) -> None:
        self._federation, self._process = federation, process
        self._number, self._leaves = 0, list[np.ndarray]()
        self._waiting: list[Chunk] = []

    def begin(self, kept: Path | None, fixed_point: FixedPoint | None) -> None:
        """Nothing: the federation has begun."""

    def begin_round(self, number: int) -> None:
        """Nothing: the federation counts rounds."""

    def make_personal(self, state: list[np.ndarray], last: np.ndarray) -> bool:
        """There are none of these passes."""
        return False

    def losses(self) -> None:
        """There are none of these passes."""

    def send(self, number: int, leaves: list[np.ndarray], clients: int) -> None:
        """Takes a pass's message."""
        self._number, self._leaves, self._waiting = number, leaves, []

    def start(self, message: Any, groups: list[np.ndarray]) -> Chunk:
        """Notes a chunk."""
        chunk = Chunk(self._federation.site_of(int(groups[0][0, 0])), groups)
        self._waiting.append(chunk)
        return chunk

    def result(self, started: Chunk) -> Sequence[Sequence[np.ndarray]]:
        """The sum of a chunk, if its site is not lost."""
        if self._waiting:
            self._run()
        return [] if started.sums is None else [started.sums]

    def _run(self) -> None:
        by_site: dict[str, list[Chunk]] = {}
        for chunk in self._waiting:
            by_site.setdefault(chunk.site, []).append(chunk)
        self._waiting = []
        if self._federation.secure is not None:
            self._federation.run_securely(self._leaves, by_site)
            return
        requests = {}
        for site, chunks in by_site.items():
            question = self._federation.question(self._process, self._number, chunks)
            requests[site] = question, [*self._leaves, *(np.concatenate(chunk.groups) for chunk in chunks)]
        for site, leaves in self._federation.run(requests):
            count, rest = divmod(len(leaves), len(by_site[site]))
            if rest:
                raise PipelineError(f"{site}: its answer has {len(leaves)} arrays for {len(by_site[site])} sums")
            for place, chunk in enumerate(by_site[site]):
                chunk.sums = leaves[place * count : (place + 1) * count]
