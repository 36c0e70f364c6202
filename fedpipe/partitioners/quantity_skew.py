"""Schemes in which clients differ by the number of their samples.

All but ``sizes`` are weights w_i, one a client, that become sizes by one rule: client i gets

    n_i = max(min_size, t w_i),   with t such that the n_i sum to the samples that are dealt out,

rounded by largest remainders. So sizes are proportional to the weights, save that no client gets less than
``quantity.min_size``, which makes any number of clients possible that the samples are enough for.
"""

import numpy as np

from fedpipe.allocation.counts import apportion
from fedpipe.allocation.given_tables import read_sizes
from fedpipe.config import Partition
from fedpipe.errors import PipelineError


def linear(samples: int, params: Partition, _: np.random.Generator) -> np.ndarray:
    """w_i = i + 1. Source: flwr-datasets, ``LinearPartitioner``."""
    return _sizes(samples, np.arange(1.0, params.clients + 1), params)


def square(samples: int, params: Partition, _: np.random.Generator) -> np.ndarray:
    """w_i = (i + 1)^2. Source: flwr-datasets, ``SquarePartitioner``."""
    return _sizes(samples, np.arange(1.0, params.clients + 1) ** 2, params)


def exponential(samples: int, params: Partition, _: np.random.Generator) -> np.ndarray:
    """w_i = exp(rate i). Source: flwr-datasets, ``ExponentialPartitioner``, where the rate is 1."""
    return _sizes(samples, _exp(params.exponential.rate * np.arange(params.clients)), params)


def lognormal(samples: int, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """w_i = exp(sigma z_i), z_i ~ N(0, 1); sigma 0 is even.

    Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", unbalanced data.
    """
    return _sizes(samples, _exp(params.lognormal.sigma * rng.standard_normal(params.clients)), params)


def dirichlet_quantity(samples: int, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """w ~ Dir(alpha, ..., alpha) over the clients.

    Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study", section "Quantity skew"
    (their code draws again while a client has too few; here such a client gets ``min_size``).
    """
    return _sizes(samples, rng.dirichlet(np.full(params.clients, params.dirichlet_quantity.alpha)), params)


def sizes(samples: int, params: Partition, _: np.random.Generator) -> np.ndarray:
    """n_i as given, in params.yaml or in a table. Source: flwr-datasets, ``SizePartitioner``.

    Raises:
      PipelineError: There are more or fewer sizes than clients, they do not sum to ``samples``, or one is below
        ``quantity.min_size``.
    """
    given, where = read_sizes(params)
    smallest = int(given.argmin())
    if given[smallest] < params.quantity.min_size:
        raise PipelineError(
            f"{where} gives client {smallest} {given[smallest]} samples, less than the {params.quantity.min_size} of "
            "'partition.quantity.min_size' in params.yaml; raise the one or lower the other"
        )
    total = int(given.sum())
    if total != samples:
        everything = samples + params.leave_out
        possible = (
            f"set 'partition.leave_out' in params.yaml to {everything - total}, or let them sum to {samples}"
            if total <= everything
            else f"let them sum to {samples}"
        )
        raise PipelineError(
            f"{where} sums to {total} samples, but {samples} are to be dealt out ({everything} less the "
            f"{params.leave_out} of 'partition.leave_out'); {possible}"
        )
    return given


def _exp(exponents: np.ndarray) -> np.ndarray:
    """exp, scaled so that the largest is 1 and none overflows."""
    return np.exp(exponents - exponents.max())


def _sizes(samples: int, weights: np.ndarray, params: Partition) -> np.ndarray:
    """The rule of the module: int [clients] with the sum ``samples``.

    Raises:
      PipelineError: The samples are not enough for ``quantity.min_size``.
    """
    clients, least = len(weights), params.quantity.min_size
    if least * clients > samples:
        raise PipelineError(
            f"params.yaml: 'partition.quantity.min_size' is {least}: {clients} clients would need {least * clients} "
            f"samples, there are {samples}; at most {samples // clients} is possible"
        )
    # If only the k largest weights are not raised to the minimum, t is what the others leave over the sum of the k. The
    # right k is the largest one whose smallest weight need not be raised then.
    descending = np.sort(weights)[::-1]
    k = np.arange(1, clients + 1)
    remains, sums = samples - least * (clients - k), np.cumsum(descending)
    last = np.flatnonzero(remains * descending >= least * sums)[-1]
    return apportion(samples, np.maximum(least, remains[last] / sums[last] * weights) / samples)
