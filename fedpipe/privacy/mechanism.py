"""An aggregator's releases, as an accountant counts them; the function ``mechanism`` of its file returns one of these.

dp-accounting is imported where it is used: it takes a second.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fedpipe.contracts.cohort import Sampling

_LEVELS = 21  # of a tree: more rounds than 'train.rounds' can be
Draw = Callable[[int], np.ndarray]  # (round) -> ids of its cohort


class Mechanism(Protocol):
    """A private mechanism: its neighbouring data sets and its accounting."""

    @property
    def neighbours(self) -> str:
        """The difference between two data sets that the guarantee hides."""

    def with_noise(self, noise_multiplier: float) -> "Mechanism":
        """The same with other noise."""

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
        """The difference between two data sets that the guarantee hides."""
        return "replace one client" if self.sampling.kind == "fixed" else "add or remove one client"

    def with_noise(self, noise_multiplier: float) -> "SampledGaussian":
        """The same with other noise."""
        return replace(self, noise_multiplier=noise_multiplier)

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


class OneGaussian:
    """A mechanism that is after each round as private as one Gaussian mechanism."""

    def as_one(self, rounds: int, draw: Draw) -> float:
        """The noise multiplier of that Gaussian mechanism; infinite if nothing is released of any client."""
        raise NotImplementedError

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon after ``rounds``, by Rényi DP: order a has the divergence a / (2 z^2)."""
        from dp_accounting import rdp

        multiplier = self.as_one(rounds, draw)
        if math.isinf(multiplier):
            return 0.0
        orders = rdp.RdpAccountant().orders
        return float(rdp.compute_epsilon(orders, orders / (2 * multiplier**2), delta)[0])

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> float | None:
        """Epsilon after ``rounds``, by the distribution of the privacy loss."""
        from dp_accounting import GaussianDpEvent, pld

        multiplier = self.as_one(rounds, draw)
        if math.isinf(multiplier):
            return 0.0
        accountant = pld.PLDAccountant()
        accountant.compose(GaussianDpEvent(multiplier))
        return float(accountant.get_epsilon(delta))


@dataclass(frozen=True)
class LocalGaussian(OneGaussian):
    """Noise on each client's own update, before anybody sees it.

    Against whoever receives it, no draw of a cohort hides who sent it. What the client holds is replaced by anything
    else, which changes its update by twice the clip norm. Counted as if the client were in every round.
    """

    noise_multiplier: float
    neighbours: str = "replace all that one client holds"

    def with_noise(self, noise_multiplier: float) -> "LocalGaussian":
        """The same with other noise."""
        return replace(self, noise_multiplier=noise_multiplier)

    def as_one(self, rounds: int, draw: Draw) -> float:
        """As `OneGaussian.as_one`, for a client that was in all ``rounds``."""
        return self.noise_multiplier / 2 / math.sqrt(rounds)


class Tree(OneGaussian):
    """Prefix sums over the rounds from a binary tree of noisy sums, by Honaker's estimator (aggregators/dp_ftrl.py).

    Nothing is counted but the released prefix sums. With those before it, the sum after round t tells no more than

        U_t = sum over j = 0, ..., l of 2^(j - l) y_j      l = number of trailing zeros of t

    where y_j is the noisy sum over the 2^j rounds that end with t. No two of the U_t share a node, so their noises are
    independent, each of variance z^2 C^2 sum_j 4^(j - l). A client that is in k_j of the rounds of y_j moves U_t by at
    most C sum_j 2^(j - l) k_j, and reaches that where its updates point the same way. Together they cost as much as
    one Gaussian mechanism of

        sensitivity^2 = C^2 sum over t of (sum_j 2^j k_j)^2 / sum_j 4^j

    The largest over the clients is taken from the cohorts as they are drawn: nothing is counted for sampling. A new
    tree begins after ``restart_every`` rounds, if that is not 0.

    Source: our derivation, for the estimator of Honaker 2015, "Efficient Use of Differentially Private Binary Trees"
    (estimation from below); tests/fedpipe/privacy/test_tree.py checks it against the matrix of the released sums.
    """

    neighbours = "leave out all updates of one client"

    def __init__(self, noise_multiplier: float, restart_every: int, clients: int) -> None:
        """``noise_multiplier``: the standard deviation of a node's noise over the clip norm."""
        self._noise_multiplier, self._restart_every = noise_multiplier, restart_every
        self._open = np.zeros((_LEVELS, clients), np.int64)  # rounds of each client in the node that is not whole
        self._squares = np.zeros(clients)  # of the sensitivity to each client, over the norm
        self._largest: list[float] = []  # of the squares, after each round

    def with_noise(self, noise_multiplier: float) -> "Tree":
        """The same with other noise; cohorts that one of the two has counted are counted for both."""
        other = copy.copy(self)
        other._noise_multiplier = noise_multiplier
        return other

    def as_one(self, rounds: int, draw: Draw) -> float:
        """As `OneGaussian.as_one`."""
        squared = self.squared_sensitivity(rounds, draw)
        return self._noise_multiplier / math.sqrt(squared) if squared else math.inf

    def squared_sensitivity(self, rounds: int, draw: Draw) -> float:
        """Squared sensitivity of the releases of ``rounds`` to their most influential client, over the squared norm."""
        while len(self._largest) < rounds:
            before = len(self._largest)
            self._add_round(before % self._restart_every if self._restart_every else before, draw(before + 1))
        return self._largest[rounds - 1]

    def _add_round(self, inside: int, clients: np.ndarray) -> None:
        """Counts a cohort, after ``inside`` rounds of this tree."""
        if not inside:
            self._open[:] = 0
        self._open[:, clients] += 1
        ending = ((inside + 1) & -(inside + 1)).bit_length()  # levels of the nodes that end with this round
        moved = (1 << np.arange(ending)) @ self._open[:ending]
        self._squares += moved.astype(np.float64) ** 2 / sum(4**level for level in range(ending))
        self._open[:ending] = 0
        self._largest.append(float(self._squares.max()))
