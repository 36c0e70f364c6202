"""The schemes by name, and what holds for all of them.

A scheme is a pure function ``(labels, params, rng) -> client of each sample``: an int array [samples] with
values 0 to clients - 1. A new family of schemes is a module of its own beside this one, and a line in `SCHEMES`.
"""

from collections.abc import Callable

import numpy as np

from stages.errors import PipelineError
from stages.params import Partition
from stages.partition import label_skew, order
from stages.seeds import Purpose, generator

Scheme = Callable[[np.ndarray, Partition, np.random.Generator], np.ndarray]

SCHEMES: dict[str, Scheme] = {
    "contiguous": order.contiguous,
    "iid": order.iid,
    "shards": label_skew.shards,
    "dirichlet": label_skew.dirichlet,
}

LEFT_OUT = -1


def assign(labels: np.ndarray, params: Partition) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`; exactly ``params.leave_out`` samples are left out.

    Args:
      labels: int [samples].
      params: The scheme and its own params.

    Raises:
      PipelineError: The request cannot be met; the message says what would be possible.
    """
    kept_count = len(labels) - params.leave_out
    if kept_count < params.clients:
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {params.clients}, but there are only {max(kept_count, 0)} samples "
            f"({len(labels)} less the {params.leave_out} of 'partition.leave_out'); a client needs at least one"
        )
    rng = generator(params.seed, Purpose.PARTITION)
    kept = _kept(len(labels), kept_count, params.scheme, rng)
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    assignment[kept] = SCHEMES[params.scheme](labels[kept], params, rng)
    return assignment


def _kept(samples: int, count: int, scheme: str, rng: np.random.Generator) -> np.ndarray:
    """The samples that clients get, ascending: the first ones where order is the scheme, else a seeded draw."""
    if scheme == "contiguous" or count == samples:
        return np.arange(count)
    return np.sort(rng.choice(samples, count, replace=False))
