"""The sum of a pass from the sums of its chunks, which come in the order of the cohort."""

from typing import Any, Protocol

import numpy as np

from fedpipe.lazy import tff
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.tff_executor import Compiled, Executor


class Total(Protocol):
    """Adds up the chunks of a pass."""

    def add(self, groups: list[np.ndarray], partial: Any) -> None:
        """Adds a chunk.

        Args:
          groups: Its clients' requests, each int32 [group, 4].
          partial: Its sum, a value of the server's executor.
        """

    def result(self) -> Any:
        """The sum, a value of the server's executor; that of nobody if nothing was added."""


class TotalOfChunks:
    """Adds chunks from left to right."""

    def __init__(self, server: Executor, compiled: Compiled) -> None:
        self._server, self._compiled = server, compiled
        self._total: Any = None

    def add(self, groups: list[np.ndarray], partial: Any) -> None:
        """As of `Total`."""
        if self._total is None:
            self._total = partial
        else:
            self._total = self._server.call(self._compiled.merge, self._server.struct(self._total, partial))

    def result(self) -> Any:
        """As of `Total`."""
        return self._server.call(self._compiled.zero) if self._total is None else self._total


class TotalOfSites:
    """Adds the chunks of each site from left to right, and then the sites' sums as integers, as a secure sum does."""

    def __init__(self, server: Executor, compiled: Compiled, fixed_point: FixedPoint, site_of: np.ndarray) -> None:
        """``site_of``: int64 [clients], the site of each client; chunks come site after site."""
        self._server, self._compiled, self._fixed_point = server, compiled, fixed_point
        self._site_of, self._sites = site_of, 0
        self._site: int | None = None  # whose chunks come
        self._of_site = TotalOfChunks(server, compiled)
        self._sum = fixed_point.zero()

    def add(self, groups: list[np.ndarray], partial: Any) -> None:
        """As of `Total`."""
        site = int(self._site_of[groups[0][0, 0]])
        if self._site != site:
            self._end_site()
            self._site = site
        self._of_site.add(groups, partial)

    def result(self) -> Any:
        """As of `Total`."""
        self._end_site()
        if not self._sites:
            return self._server.call(self._compiled.zero)
        leaves = self._fixed_point.leaves(self._sum, self._sites)
        return self._server.value(tuple(leaves), tff.FederatedType(self._compiled.sum_type, tff.SERVER))

    def _end_site(self) -> None:
        if self._site is None:
            return
        leaves = [np.asarray(leaf) for leaf in self._server.fetch(self._of_site.result())]
        self._sum.add(self._fixed_point.vector(leaves))
        self._sum.reduce(self._fixed_point.bits)
        self._sites, self._site = self._sites + 1, None
        self._of_site = TotalOfChunks(self._server, self._compiled)
