"""The sum over a site's clients as integers, and the sum of several sites' integers as a sum over clients again.

A federation adds these integers with the protocol of fedpipe/secure_aggregation, so that the coordinator sees no site's
sum; a simulation of its sites adds them in the open. Both round each site's sum in the same way, here, and integers add
to the same bits in any order.

An update is integers already (``SUMS_INTEGERS`` of an aggregator). All other numbers have public bounds: numbers of
examples and correct answers are exact up to 2^48; weights, losses and other real numbers are multiples of 2^-24 up to
2^28. Beyond the bounds a site's number counts as the bound.

With noise at sites, integers of the update are all that is summed: other numbers would leave without noise. The mean is
then over the clients that were asked at the sites that are in the sum.
"""

from collections.abc import Sequence

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.learning.client_work import Accumulator
from fedpipe.learning.passes import Pass
from fedpipe.learning.structure import flat
from fedpipe.secure_aggregation.values import Quantities, Quantity, tensors, words
from fedpipe.secure_aggregation.vector import MOST_SITES, Vector

# Bounds of numbers in a secure sum, as of `Quantity`.
WHOLE = {"low": -(2.0**48), "high": 2.0**48, "step": 1.0}
REAL = {"low": -(2.0**28), "high": 2.0**28, "step": 2.0**-24}
_MODULUS = 2**62  # as of `secure_sum.merge`


class FixedPoint:
    """The vectors of one training.

    Attributes:
      bits: Updates are summed modulo 2^bits.
      length: The number of an update's integers.
      count: The number of other numbers that are summed.
      noise: The least variance of the noise that sites add to an integer of a sum; 0 is none.
    """

    def __init__(self, sums: Accumulator, bits: int, noise: int = 0) -> None:
        """Arguments as of the attributes; ``sums``: the specs of a sum over clients.

        Raises:
          PipelineError: Clients send vectors besides the update, or an update that is not made of integers.
        """
        updates, names = flat(sums.update), ["weight", *sorted(sums.measurements)]
        others = flat(sums._replace(update=()))
        whole = all(np.dtype(spec.dtype.as_numpy_dtype) == np.int64 for spec in updates)
        if not whole or len(names) != len(others) or any(spec.shape.rank for spec in others):
            raise PipelineError(
                "sites sum integers, and numbers besides: clients that send other vectors than an update of integers "
                "cannot take part"
            )
        self.bits, self.noise = bits, noise
        self._shapes = [tuple(spec.shape) for spec in updates]
        self.length = sum(int(np.prod(shape)) for shape in self._shapes)
        self._types = {name: np.dtype(spec.dtype.as_numpy_dtype) for name, spec in zip(names, others, strict=True)}
        each = [
            Quantity(name, **(REAL if kind.kind == "f" else WHOLE)) for name, kind in self._types.items() if not noise
        ]
        self._quantities, self.count = Quantities(tuple(each), MOST_SITES), len(each)

    @staticmethod
    def of(passes: Sequence[Pass], bits: int, noise: int = 0) -> "FixedPoint":
        """Of a training with these passes.

        Raises:
          PipelineError: A round has several.
        """
        if len(passes) != 1:
            raise PipelineError(f"sites sum integers in one pass of a round, and this algorithm has {len(passes)}")
        return FixedPoint(passes[0].sums.specs, bits, noise)

    def merged(self, chunks: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The sum of a site's chunks, from left to right: the bits of `Compiled.merge`.

        Args:
          chunks: The leaves of each chunk's sum.
        """
        count, (first, *others) = len(self._shapes), chunks
        total = list(first)
        for chunk in others:
            total = [np.add(a, b) for a, b in zip(total, chunk, strict=True)]
            total[:count] = [np.mod(part, _MODULUS) for part in total[:count]]
        return total

    def vector(self, leaves: Sequence[np.ndarray]) -> Vector:
        """A site's integers.

        Args:
          leaves: Of its sum.
        """
        count = len(self._shapes)
        if self.noise:
            return Vector(words(leaves[:count], self.bits), self._quantities.words({}))
        values = {name: float(np.nan_to_num(leaf)) for name, leaf in zip(self._types, leaves[count:], strict=True)}
        return Vector(words(leaves[:count], self.bits), self._quantities.words(values))

    def leaves(self, total: Vector, sites: int) -> list[np.ndarray]:
        """The leaves of the sum of several sites; with noise, zeros for what is not summed.

        Args:
          total: The sum of their integers, the update's modulo 2^bits.
          sites: How many they are.

        Raises:
          Refused: A number is beyond what so many sites may send.
        """
        sums = self._quantities.sums(total.quantities, sites)
        others = [np.asarray(sums.get(name, 0), kind) for name, kind in self._types.items()]
        return [*tensors(total.weights, self._shapes), *others]

    def weighed(self, leaves: Sequence[np.ndarray], clients: int) -> list[np.ndarray]:
        """The leaves of a sum, with ``clients`` as weight and number if sites have added noise."""
        if not self.noise:
            return list(leaves)
        counts = {name: clients if name in ("weight", "clients") else 0 for name in self._types}
        return [*leaves[: len(self._shapes)], *(np.asarray(counts[name], kind) for name, kind in self._types.items())]

    def zero(self) -> Vector:
        """To add to."""
        return Vector.zeros(self.bits, self.length, self.count)
