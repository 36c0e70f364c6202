"""How exactly a site tells how many samples each of its clients has: ``counts`` of its policy."""

from typing import Literal

import numpy as np

Counts = Literal["exact", "rounded", "withheld"]
MULTIPLE = 10  # to which rounded numbers are rounded up
WITHHELD = -1  # in place of a number


def reported(samples: np.ndarray, counts: Counts) -> np.ndarray:
    """The numbers that leave a site, int64 [clients].

    Rounded ones are up to the next multiple of ten, and at least ten, so that a client without samples is none apart.

    Args:
      samples: int64 [clients], how many each client has.
      counts: How exactly they are reported.
    """
    if counts == "exact":
        return samples
    if counts == "withheld":
        return np.full_like(samples, WITHHELD)
    return np.maximum(-(-samples // MULTIPLE), 1) * MULTIPLE


def could_be(numbers: np.ndarray, counts: Counts) -> bool:
    """Whether `reported` can have returned ``numbers``."""
    if counts == "withheld":
        return bool((numbers == WITHHELD).all())
    if counts == "rounded":
        return bool((numbers > 0).all() and not (numbers % MULTIPLE).any())
    return bool((numbers >= 0).all())
