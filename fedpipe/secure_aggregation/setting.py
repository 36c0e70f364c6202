"""What all sites agree on before a training, outside of the coordinator; and the digest that binds it to a round."""

import hashlib
import math
from dataclasses import dataclass

from fedpipe.secure_aggregation.encoding import joined
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.vector import MOST_BITS

_PROTOCOL = b"fedpipe secure aggregation 1"
FEWEST_BITS, MOST_WEIGHTS, MOST_QUANTITIES = 8, 1 << 28, 1 << 10
MOST_VARIANCE = 1 << 48  # of one site's noise: above, float64 no longer holds every integer that is drawn
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Setting:
    """The sums of one training.

    Attributes:
      training: 32 bytes, drawn anew for each training.
      roster: Who takes part.
      bits: Weights are summed modulo 2^bits (`secure_sum.bits` of params).
      length: Number of weights.
      quantities: Number of quantities, summed modulo 2^64.
      noise: The variance that the sum's noise has at least, in units of the integers squared; 0 is no noise.

    Raises:
      Refused: One of them is out of range, or there are quantities beside noisy weights.
    """

    training: bytes
    roster: Roster
    bits: int
    length: int
    quantities: int = 0
    noise: int = 0

    def __post_init__(self) -> None:
        if len(self.training) != DIGEST_BYTES:
            raise Refused(f"a training is named by {DIGEST_BYTES} bytes, not {len(self.training)}")
        for name, value, least, most in (
            ("bits", self.bits, FEWEST_BITS, MOST_BITS),
            ("length", self.length, 1, MOST_WEIGHTS),
            ("quantities", self.quantities, 0, MOST_QUANTITIES),
            ("noise per site", self.noise_per_site, 0, MOST_VARIANCE),
        ):
            if not least <= value <= most:
                raise Refused(f"'{name}' of a secure sum is from {least} to {most}, not {value}")
        if self.noise and self.quantities:
            raise Refused("noise is for weights, and quantities would leave without it: sum none beside noisy weights")

    @property
    def noise_per_site(self) -> int:
        """What each site adds: the smallest sum has ``minimum`` sites, and colluding ones may add nothing."""
        return math.ceil(self.noise / (self.roster.minimum - self.roster.colluding))

    def context(self, round_number: int, attempt: int, model: bytes) -> bytes:
        """A digest of all that sites must have in common in an attempt of a round.

        Keys, masks, letters and signatures are derived from it: if two sites differ in anything, they do not fit.

        Args:
          round_number: From 1 on.
          attempt: From 0 on; another one if a round ended without a sum.
          model: The digest of the model that the site received.
        """
        roster, sizes = self.roster, (self.bits, self.length, self.quantities, self.noise, round_number, attempt)
        numbers = (roster.colluding, *sizes)
        parts = [b"%d" % number for number in numbers] + [model, *roster.identities]
        return hashlib.sha256(joined(_PROTOCOL, self.training, *parts)).digest()
