"""The mechanism of `Ledger` for a federation whose sites add noise, with a site as the unit of privacy."""

from dataclasses import dataclass, replace

from fedpipe.privacy.mechanism import Draw
from fedpipe.secure_aggregation.skellam_privacy import SkellamSum, sensitivity


@dataclass(frozen=True)
class SiteNoise:
    """Skellam noise on each sum over sites, which are taken to be in every round.

    Attributes:
      variance: The least of a sum's noise, in units of the integers squared: that of the smallest sum, without the
        noise of colluding sites.
      scale: Integers per unit of an update.
      norm: Of a client's update.
      length: Number of entries.
      clients: The most that a site has in a round.
    """

    variance: float
    scale: float
    norm: float
    length: int
    clients: int
    neighbours: str = "leave out all updates of one site"

    def with_noise(self, noise_multiplier: float) -> "SiteNoise":
        """The same with other noise, in units of the norm."""
        return replace(self, variance=(noise_multiplier * self.norm * self.scale) ** 2)

    @property
    def summed(self) -> SkellamSum:
        """A round's sum."""
        change = sensitivity(self.norm, self.scale, self.length, self.clients)
        return SkellamSum(self.variance, change, self.length)

    def epsilon(self, rounds: int, delta: float, draw: Draw) -> float:
        """Epsilon after ``rounds``, by Rényi DP."""
        return self.summed.epsilon(rounds, delta)

    def tight_epsilon(self, rounds: int, delta: float, draw: Draw) -> None:
        """Not known."""
        return
