"""Quantity ``lognormal``: sizes whose logarithms are normal, w_i = exp(sigma z_i) with z_i ~ N(0, 1).

With sigma 0 all sizes are even.

Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", unbalanced data.
https://arxiv.org/abs/2111.04263
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from fedpipe.allocation.proportional_sizes import MinSize, exp_weights, proportional_sizes


class Params(MinSize):
    """The spread of the logarithm of the sizes, and the smallest client."""

    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def sizes(samples: int, clients: int, params: Params, rng: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients].

    Raises:
      PipelineError: The samples are not enough for ``min_size``.
    """
    return proportional_sizes(samples, exp_weights(params.sigma * rng.standard_normal(clients)), params, "lognormal")
