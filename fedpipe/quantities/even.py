"""Quantity ``even``: no quantity skew; sizes differ by at most one.

The first clients get the rest of the division. A scheme that decides the sizes itself (``dirichlet``, say) takes no
other quantity than this one, and its sizes are then its own.
"""

import numpy as np

from fedpipe.allocation.counts import even_sizes
from fedpipe.config.section import Section


class Params(Section):
    """None."""


def sizes(samples: int, clients: int, _: Params, __: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients]."""
    return even_sizes(samples, clients)
