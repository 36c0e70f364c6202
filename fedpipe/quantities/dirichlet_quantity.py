"""Quantity ``dirichlet_quantity``: sizes proportional to a draw w ~ Dir(alpha, ..., alpha) over the clients.

The smaller alpha, the more unequal the sizes.

Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study", section "Quantity skew"
(their code draws again while a client has too few; here such a client gets ``min_size``).
https://arxiv.org/abs/2102.02079
"""

import numpy as np

from fedpipe.allocation.proportional_sizes import MinSize, proportional_sizes
from fedpipe.config.section import Concentration


class Params(MinSize):
    """The concentration of the sizes, and the smallest client."""

    alpha: Concentration


def sizes(samples: int, clients: int, params: Params, rng: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients].

    Raises:
      PipelineError: The samples are not enough for ``min_size``.
    """
    return proportional_sizes(samples, rng.dirichlet(np.full(clients, params.alpha)), params, "dirichlet_quantity")
