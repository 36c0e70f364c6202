"""Quantity ``square``: sizes proportional to the square of the client's number, w_i = (i + 1)^2.

Source: flwr-datasets, ``SquarePartitioner``. https://flower.ai/docs/datasets/
"""

import numpy as np

from fedpipe.allocation.proportional_sizes import MinSize, proportional_sizes


class Params(MinSize):
    """The smallest client."""


def sizes(samples: int, clients: int, params: Params, _: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients].

    Raises:
      PipelineError: The samples are not enough for ``min_size``.
    """
    return proportional_sizes(samples, np.arange(1.0, clients + 1) ** 2, params, "square")
