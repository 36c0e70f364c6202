"""Sizes of clients in proportion to weights, which the files of fedpipe/quantities share.

Weights w_i, one per client, become sizes by one rule: client i gets

    n_i = max(min_size, t w_i),   with t such that the n_i sum to the samples that are dealt out,

rounded by largest remainders. So sizes are proportional to the weights, save that no client gets less than
``min_size``, which makes any number of clients possible that the samples are enough for.
"""

import numpy as np

from fedpipe.allocation.counts import apportion
from fedpipe.config.section import Section, Size
from fedpipe.errors import PipelineError


class MinSize(Section):
    """How many samples every client gets at least; 0 lets a client get none."""

    min_size: Size


def exp_weights(exponents: np.ndarray) -> np.ndarray:
    """exp, scaled so that the largest is 1 and none overflows: float [clients]."""
    return np.exp(exponents - exponents.max())


def proportional_sizes(samples: int, weights: np.ndarray, params: MinSize, quantity: str) -> np.ndarray:
    """The rule of the module: int [clients] with the sum ``samples``.

    Args:
      samples: How many are dealt out.
      weights: float [clients], none negative, not all 0.
      params: The minimum size.
      quantity: The quantity's name, for a message.

    Raises:
      PipelineError: The samples are not enough for ``min_size``.
    """
    clients, least = len(weights), params.min_size
    if least * clients > samples:
        raise PipelineError(
            f"params.yaml: 'partition.{quantity}.min_size' is {least}: {clients} clients would need {least * clients} "
            f"samples, there are {samples}; at most {samples // clients} is possible"
        )
    # If only the k largest weights are not raised to the minimum, t is what the others leave over the sum of the k. The
    # right k is the largest one whose smallest weight need not be raised then.
    descending = np.sort(weights)[::-1]
    k = np.arange(1, clients + 1)
    remains, sums = samples - least * (clients - k), np.cumsum(descending)
    last = np.flatnonzero(remains * descending >= least * sums)[-1]
    return apportion(samples, np.maximum(least, remains[last] / sums[last] * weights) / samples)
