"""Figures on held-out samples as integers, for a secure sum over sites: samples, correct ones and the loss."""

from typing import ClassVar

import numpy as np

from fedpipe.evaluation.held_out import Sums
from fedpipe.learning.fixed_point import REAL, WHOLE
from fedpipe.secure_aggregation.values import Quantities, Quantity, words
from fedpipe.secure_aggregation.vector import MOST_SITES, Vector


class HeldOutSums:
    """The sizes of a sum, and its numbers: samples exactly, the others as multiples of 2^-24."""

    bits: ClassVar[int] = 8
    length: ClassVar[int] = 1  # the protocol sums weights, too: a zero
    count: ClassVar[int] = 3
    noise: ClassVar[int] = 0
    _quantities = Quantities(
        (Quantity("samples", **WHOLE), Quantity("correct", **REAL), Quantity("loss", **REAL)), MOST_SITES
    )

    @classmethod
    def vector(cls, sums: Sums) -> Vector:
        """A site's integers."""
        return Vector(words([np.zeros(cls.length, np.int64)], cls.bits), cls._quantities.words(sums._asdict()))

    @classmethod
    def of(cls, total: Vector, sites: int) -> Sums:
        """The figures of so many ``sites`` together.

        Raises:
          Refused: A number is beyond what so many sites may send.
        """
        summed = cls._quantities.sums(total.quantities, sites)
        return Sums(round(summed["samples"]), summed["correct"], summed["loss"])
