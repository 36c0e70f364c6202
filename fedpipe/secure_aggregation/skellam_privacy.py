"""The privacy loss of a sum with Skellam noise: Rényi differential privacy for integer vectors.

With variance v of the sum's noise, and a change of the sum by at most l1 and l2 in the L1 and L2 norm, order a has

    R(a) <= a l2^2 / (2 v) + min( ((2 a - 1) l2^2 + 6 l1) / (4 v^2),  3 l1 / (2 v) )          a = 2, 3, ...

The first term is that of the Gaussian mechanism. For integer vectors of n entries, l1 <= min(sqrt(n) l2, l2^2).

Source: Agarwal, Kairouz and Liu 2021, "The Skellam Mechanism for Differentially Private Federated Learning", theorem
3.5 and corollary 4.1, https://arxiv.org/abs/2110.04995.
"""

import math
from dataclasses import dataclass

import numpy as np

_ORDERS = np.concatenate([np.arange(2, 129), 2 ** np.arange(8, 17)])


@dataclass(frozen=True)
class SkellamSum:
    """A sum of integer vectors with Skellam noise.

    Attributes:
      variance: Of the noise on each entry, of all honest summands together: (minimum - colluding) shares.
      l2: The most that one site can change the sum by, in units of the integers (`sensitivity`).
      length: Number of entries.
    """

    variance: float
    l2: float
    length: int

    @property
    def l1(self) -> float:
        """The same in the L1 norm."""
        return self.l2 * min(math.sqrt(self.length), self.l2)

    def renyi(self, order: int) -> float:
        """The bound of a round at an integer order from 2 on."""
        v, squared = self.variance, self.l2**2
        first = ((2 * order - 1) * squared + 6 * self.l1) / (4 * v * v)
        return order * squared / (2 * v) + min(first, 3 * self.l1 / (2 * v))

    def epsilon(self, rounds: int, delta: float) -> float:
        """Epsilon after ``rounds``, each with all sites: Rényi DP of integer orders, no amplification by sampling.

        dp-accounting converts, and is imported here because it takes a second.
        """
        from dp_accounting import rdp

        per_round = np.array([self.renyi(int(order)) for order in _ORDERS])
        return float(rdp.compute_epsilon(_ORDERS.astype(float), rounds * per_round, delta)[0])


def sensitivity(norm: float, scale: float, length: int, clients: int = 1) -> float:
    """The L2 norm that a site's integers cannot exceed, with updates clipped to ``norm`` and rounded to the nearest.

    Rounding moves each entry by at most 1/2. Replacing all that a site holds changes the sum by twice as much.

    Args:
      norm: Of a client's update.
      scale: Integers per unit.
      length: Number of entries.
      clients: Of the site, whose integers it adds.
    """
    return clients * (scale * norm + math.sqrt(length) / 2)
