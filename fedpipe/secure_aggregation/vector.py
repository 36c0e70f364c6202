"""The summands: a site's weights modulo 2^bits, and its quantities modulo 2^64."""

from dataclasses import dataclass

import numpy as np

from fedpipe.secure_aggregation.refusal import Refused

QUANTITY = np.dtype("<u8")
MOST_BITS = 62  # as in aggregators/secure_sum.py
MOST_SITES = 1000


def word(bits: int) -> np.dtype:
    """The integers of a sum modulo 2^bits: their overflow is a reduction modulo a multiple of 2^bits."""
    return np.dtype("<u4" if bits <= 32 else "<u8")


@dataclass(frozen=True)
class Vector:
    """A summand or a sum.

    Attributes:
      weights: uint32 or uint64 [length], as `word` says; below 2^bits when it is sent.
      quantities: uint64 [number of quantities].
    """

    weights: np.ndarray
    quantities: np.ndarray

    @classmethod
    def zeros(cls, bits: int, length: int, quantities: int) -> "Vector":
        """A vector to add to."""
        return cls(np.zeros(length, word(bits)), np.zeros(quantities, QUANTITY))

    def copy(self) -> "Vector":
        """The same integers in arrays of their own."""
        return Vector(self.weights.copy(), self.quantities.copy())

    def add(self, other: "Vector") -> None:
        """Adds ``other`` in place."""
        np.add(self.weights, other.weights, out=self.weights)
        np.add(self.quantities, other.quantities, out=self.quantities)

    def reduce(self, bits: int) -> None:
        """Reduces the weights modulo 2^bits, in place."""
        if bits != 8 * self.weights.itemsize:
            np.bitwise_and(self.weights, self.weights.dtype.type((1 << bits) - 1), out=self.weights)

    def require(self, bits: int, length: int, quantities: int, site: int | None = None) -> None:
        """Raises Refused if shapes or types are others, or a weight is 2^bits or larger."""
        shapes = (self.weights.shape, self.quantities.shape)
        if shapes != ((length,), (quantities,)):
            raise Refused(f"the sum has {length} weights and {quantities} quantities, and these are {shapes}", site)
        if self.weights.dtype != word(bits) or self.quantities.dtype != QUANTITY:
            raise Refused(f"weights are {word(bits)} and quantities {QUANTITY}, little-endian", site)
        if bits != 8 * self.weights.itemsize and length and int(self.weights.max()) >> bits:
            raise Refused(f"a weight has more than {bits} bits", site)
