"""Means, deviations and medians with the same bits on every machine: sums are rounded once, at their end."""

import math

import numpy as np


def mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation (of the population) of float64 [n]; deviation 1.0 if all are equal.

    `math.fsum` is exact up to one rounding, so no order of additions and no vector unit shows in the result.
    """
    mean = math.fsum(values.tolist()) / len(values)
    deviation = math.sqrt(math.fsum(np.square(values - mean).tolist()) / len(values))
    return mean, deviation if deviation > 0 else 1.0


def median(values: np.ndarray) -> float:
    """The median of float64 [n]; of an even number of values the lower one of the middle two."""
    return float(np.sort(values)[(len(values) - 1) // 2])
