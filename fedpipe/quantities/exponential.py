"""Quantity ``exponential``: sizes that grow by one factor from client to client, w_i = exp(rate i).

Source: flwr-datasets, ``ExponentialPartitioner``, where the rate is 1. https://flower.ai/docs/datasets/
"""

import numpy as np

from fedpipe.allocation.proportional_sizes import MinSize, exp_weights, proportional_sizes
from fedpipe.config.section import Positive


class Params(MinSize):
    """The growth from one client to the next, and the smallest client."""

    rate: Positive


def sizes(samples: int, clients: int, params: Params, _: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients].

    Raises:
      PipelineError: The samples are not enough for ``min_size``.
    """
    return proportional_sizes(samples, exp_weights(params.rate * np.arange(clients)), params, "exponential")
