"""What an aggregator releases, as an accountant counts it; the function ``mechanism`` of its file returns one of these.

dp-accounting is imported where it is used: it takes a second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fedpipe.privacy.sampling import Sampling

_LEVELS = 21  # of a tree: more rounds than 'train.rounds' can be
Draw = Callable[[int], np.ndarray]  # (round) -> ids of its cohort


class Mechanism(Protocol):
    """What is counted, and how."""

    @property
    def neighbours(self) -> str:
        """What two data sets differ by that the guarantee makes alike."""

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon after ``rounds``, by Rényi DP."""

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> float | None:
        """Epsilon after ``rounds``, by the distribution of the privacy loss; None if that is not known."""


@dataclass(frozen=True)
class SampledGaussian:
    """Noise on the sum over a sampled cohort, in each round.

    ``noise_multiplier`` z is the noise's standard deviation over the clip norm, which is what one client changes the
    sum by if it is added or removed. Cohorts of a fixed size cannot lose a client: there it is replaced by another,
    which changes the sum by twice the norm, so that z counts half.
    """

    noise_multiplier: float
    sampling: Sampling

    @property
    def neighbours(self) -> str:
        """What two data sets differ by that the guarantee makes alike."""
        return "replace one client" if self.sampling.kind == "fixed" else "add or remove one client"

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon after ``rounds``, by Rényi DP."""
        from dp_accounting import rdp

        orders, per_round = self._renyi
        return float(rdp.compute_epsilon(orders, rounds * per_round, delta)[0])

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> float | None:
        """Epsilon after ``rounds``, by the distribution of the privacy loss; None without replacement."""
        from dp_accounting import SelfComposedDpEvent, pld

        if self.sampling.kind == "fixed":
            return None
        accountant = pld.PLDAccountant()
        accountant.compose(SelfComposedDpEvent(self.event(), rounds))
        return float(accountant.get_epsilon(delta))

    def event(self) -> Any:
        """A round, in the words of dp-accounting."""
        import dp_accounting as dp

        kind, expected, clients = self.sampling
        if kind == "all":
            return dp.GaussianDpEvent(self.noise_multiplier)
        if kind == "poisson":
            return dp.PoissonSampledDpEvent(self.sampling.probability, dp.GaussianDpEvent(self.noise_multiplier))
        replaced = dp.GaussianDpEvent(self.noise_multiplier / 2)
        return dp.SampledWithoutReplacementDpEvent(clients, int(expected), replaced)

    @cached_property
    def _renyi(self) -> tuple[np.ndarray, np.ndarray]:
        """Orders, and the Rényi divergence of a round at each."""
        from dp_accounting import NeighboringRelation, rdp

        fixed = self.sampling.kind == "fixed"
        relation = NeighboringRelation.REPLACE_ONE if fixed else NeighboringRelation.ADD_OR_REMOVE_ONE
        accountant = rdp.RdpAccountant(neighboring_relation=relation)
        accountant.compose(self.event())
        return accountant.orders, accountant.rdp


@dataclass(frozen=True)
class LocalGaussian:
    """Noise on each client's own update, before anybody sees it.

    Against whoever receives it, no draw of a cohort hides who sent it. What the client holds is replaced by anything
    else, which changes its update by twice the clip norm. Counted as if the client were in every round.
    """

    noise_multiplier: float
    neighbours: str = "replace all that one client holds"

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon of a client that was in ``rounds``, by Rényi DP."""
        return _gaussian_renyi(self.noise_multiplier / 2 / math.sqrt(rounds), delta)

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> float | None:
        """The same by the distribution of the privacy loss."""
        return _gaussian_tight(self.noise_multiplier / 2 / math.sqrt(rounds), delta)


class Tree:
    """Noise on the nodes of a binary tree over the rounds, each the sum over 2^l rounds (Kairouz et al. 2021).

    A client that is in k_v of the rounds of node v changes the nodes by at most norm x sqrt(sum_v k_v^2). The largest
    of these over the clients is taken from the cohorts as they are drawn: nothing is counted for sampling. A tree
    ends after ``restart_every`` rounds, if that is not 0; nodes that are not whole are never released.
    """

    neighbours = "leave out all updates of one client"

    def __init__(self, noise_multiplier: float, restart_every: int, clients: int) -> None:
        """``noise_multiplier``: the standard deviation of a node's noise over the clip norm."""
        self._noise_multiplier, self._restart_every = noise_multiplier, restart_every
        self._open = np.zeros((_LEVELS, clients), np.int64)  # rounds of each client in the node that is not whole
        self._squares = np.zeros(clients, np.int64)  # summed over the whole nodes
        self._largest: list[int] = []  # of the squares, after each round

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon after ``rounds``, by Rényi DP."""
        return _gaussian_renyi(self._effective(rounds, draw), delta)

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> float | None:
        """Epsilon after ``rounds``, by the distribution of the privacy loss."""
        return _gaussian_tight(self._effective(rounds, draw), delta)

    def largest_sum(self, rounds: int, draw: Draw) -> int:
        """The largest sum of squares over the clients after ``rounds``."""
        while len(self._largest) < rounds:
            before = len(self._largest)
            self._add_round(before % self._restart_every if self._restart_every else before, draw(before + 1))
        return self._largest[rounds - 1]

    def _add_round(self, inside: int, clients: np.ndarray) -> None:
        """Counts a cohort, after ``inside`` rounds of this tree."""
        if not inside:
            self._open[:] = 0
        self._open[:, clients] += 1
        for level in range(_LEVELS):
            if (inside + 1) % (1 << level):
                break
            self._squares += self._open[level] ** 2
            self._open[level] = 0
        self._largest.append(int(self._squares.max()))

    def _effective(self, rounds: int, draw: Draw) -> float:
        """The noise multiplier of one Gaussian mechanism that is as private as the tree."""
        largest = self.largest_sum(rounds, draw)
        return self._noise_multiplier / math.sqrt(largest) if largest else math.inf


def _gaussian_renyi(noise_multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian mechanism: order a has the divergence a / (2 z^2)."""
    from dp_accounting import rdp

    if math.isinf(noise_multiplier):
        return 0.0
    orders = rdp.RdpAccountant().orders
    return float(rdp.compute_epsilon(orders, orders / (2 * noise_multiplier**2), delta)[0])


def _gaussian_tight(noise_multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian mechanism by the distribution of its privacy loss."""
    from dp_accounting import GaussianDpEvent, pld

    if math.isinf(noise_multiplier):
        return 0.0
    accountant = pld.PLDAccountant()
    accountant.compose(GaussianDpEvent(noise_multiplier))
    return float(accountant.get_epsilon(delta))
