"""From a site's update and figures to a vector of integers, and from the sum of vectors back.

Weights are the integers of aggregators/secure_sum.py. Quantities (numbers of examples, weights of the mean, losses,
correct answers) are fixed-point numbers with public bounds, so that nothing of one site travels beside the sum:

    word = round((min(max(x, low), high) - low) / step)          sum of x = step * (sum of words) + sites * low
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.vector import QUANTITY, word

_ROOM = 1 << 64


def words(parts: Sequence[np.ndarray], bits: int) -> np.ndarray:
    """Weights of a vector, from the tensors of `secure_sum.encode` or their sums.

    Args:
      parts: int64, of any shapes.
      bits: They are reduced modulo 2^bits.
    """
    flat = np.concatenate([np.asarray(part, np.int64).ravel() for part in parts])
    return (flat & ((1 << bits) - 1)).astype(word(bits))


def tensors(weights: np.ndarray, shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Weights of a sum as the tensors that `secure_sum.finish` takes: int64, of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    if not len(ends) or ends[-1] != len(weights):
        raise ValueError(f"{len(weights)} weights are not those of the shapes {list(shapes)}")
    parts = np.split(weights.astype(np.int64), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True)
class Quantity:
    """A figure of a site that is summed over the sites.

    Attributes:
      name: For people, and for mappings.
      low: The smallest value; smaller ones count as it.
      high: The largest value; larger ones count as it.
      step: Values are rounded to multiples of it, from ``low`` on. 1 for whole numbers.
    """

    name: str
    low: float
    high: float
    step: float = 1.0

    @property
    def largest(self) -> int:
        """The largest word of a site."""
        return round((self.high - self.low) / self.step)

    def word(self, value: float) -> int:
        """A site's word. Raises Refused if the value is not a finite number."""
        if not math.isfinite(value):
            raise Refused(f"{self.name} is {value}, which no sum can hold")
        return round((min(max(value, self.low), self.high) - self.low) / self.step)

    def nearest(self, value: float) -> float:
        """The value that counts in the sum."""
        return self.low + self.step * self.word(value)


@dataclass(frozen=True)
class Quantities:
    """All figures of a site, in an order that all sites know.

    Raises:
      Refused: Bounds or steps make no sense, or the sum of so many sites does not fit into 64 bits.
    """

    each: tuple[Quantity, ...]
    sites: int

    def __post_init__(self) -> None:
        if len({quantity.name for quantity in self.each}) != len(self.each):
            raise Refused("two quantities have the same name")
        for quantity in self.each:
            if not (
                math.isfinite(quantity.low)
                and math.isfinite(quantity.high)
                and quantity.low < quantity.high
                and quantity.step > 0
            ):
                raise Refused(f"{quantity.name}: finite bounds, the lower one first, and a step above 0 are needed")
            if self.sites * quantity.largest >= _ROOM:
                raise Refused(
                    f"{quantity.name}: the sum of {self.sites} sites has more than 64 bits; choose a larger step"
                )

    def words(self, values: Mapping[str, float]) -> np.ndarray:
        """uint64 [number of quantities], a site's. Raises Refused if a value is missing, unknown or not finite."""
        if values.keys() != {quantity.name for quantity in self.each}:
            raise Refused(f"quantities are {[quantity.name for quantity in self.each]}, and these are {sorted(values)}")
        return np.array([quantity.word(values[quantity.name]) for quantity in self.each], QUANTITY)

    def sums(self, totals: np.ndarray, sites: int) -> dict[str, float]:
        """The sums of ``sites`` sites. Raises Refused if one is above its bound."""
        sums = {}
        for quantity, total in zip(self.each, totals.tolist(), strict=True):
            if total > sites * quantity.largest:
                raise Refused(f"the sum of {quantity.name} is out of its bounds: a site has sent what no site may")
            exact = total * Fraction(quantity.step) + sites * Fraction(quantity.low)
            sums[quantity.name] = float(exact)  # rounded once
        return sums
