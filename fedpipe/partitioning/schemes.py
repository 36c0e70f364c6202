"""The schemes by name, and what holds for all of them.

Two questions make a partition: how many samples a client gets (`QUANTITY`), and which (`LABELS`). A label scheme
leaves the first at "evenly" or answers it itself; a quantity scheme leaves the second to ``quantity.labels``; scheme
``by_column`` reads both from a table. A new scheme is a function in a module beside this one, and a line here.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from fedpipe.allocation.counts import LEFT_OUT, even_sizes
from fedpipe.config import Partition
from fedpipe.errors import PipelineError
from fedpipe.partitioners import class_choice, label_mix, label_skew, natural, order, quantity_skew
from fedpipe.seeds import Purpose, generator

# (labels [samples], sizes [clients], params, rng) -> client of each sample or LEFT_OUT: int [samples].
LabelScheme = Callable[[np.ndarray, np.ndarray, Partition, np.random.Generator], np.ndarray]
# (samples, params, rng) -> how many samples each client gets: int [clients], with the sum ``samples``.
QuantityScheme = Callable[[int, Partition, np.random.Generator], np.ndarray]

LABELS: dict[str, LabelScheme] = {
    "contiguous": order.contiguous,
    "iid": order.iid,
    "shards": label_skew.shards,
    "dirichlet": label_skew.dirichlet,
    "inner_dirichlet": label_mix.inner_dirichlet,
    "pathological": class_choice.pathological,
    "distribution": label_mix.distribution,
}

QUANTITY: dict[str, QuantityScheme] = {
    "linear": quantity_skew.linear,
    "square": quantity_skew.square,
    "exponential": quantity_skew.exponential,
    "lognormal": quantity_skew.lognormal,
    "dirichlet_quantity": quantity_skew.dirichlet_quantity,
    "sizes": quantity_skew.sizes,
}

NATURAL = "by_column"


def assign(labels: np.ndarray, params: Partition) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`; exactly ``params.leave_out`` samples are left out.

    No client gets none, unless a ``min_size`` of 0 in the scheme's params allows it.

    Args:
      labels: int [samples].
      params: The scheme and its own params.

    Raises:
      PipelineError: The request cannot be met; the message says what would be possible.
    """
    if params.scheme == NATURAL:
        return natural.by_column(labels, params)
    count = len(labels) - params.leave_out
    if count < params.clients:
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {params.clients}, but there are only {max(count, 0)} samples "
            f"({len(labels)} less the {params.leave_out} of 'partition.leave_out'); a client needs at least one"
        )
    rng = generator(params.seed, Purpose.PARTITION)
    kept = _kept(len(labels), count, params, rng)
    quantity = QUANTITY.get(params.scheme)
    sizes = quantity(count, params, rng) if quantity else even_sizes(count, params.clients)
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    assignment[kept] = LABELS[_label_scheme(params)](labels[kept], sizes, params, rng)
    return assignment


def client_names(params: Partition) -> pd.DataFrame | None:
    """Columns client and name: who the clients of a natural partition are; None for the other schemes.

    Raises:
      PipelineError: The table cannot be read.
    """
    return natural.client_names(params) if params.scheme == NATURAL else None


def scheme_name(params: Partition) -> str:
    """The scheme for a title, with who deals the labels where that is another one."""
    return f"{params.scheme}, labels {params.quantity.labels}" if params.scheme in QUANTITY else params.scheme


def _label_scheme(params: Partition) -> str:
    return params.quantity.labels if params.scheme in QUANTITY else params.scheme


def _kept(samples: int, count: int, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """The samples that are dealt out, ascending: the first ones where order is the scheme, else a seeded draw.

    Given label mixes need a choice of their own: they are shown all samples, and take what they need.
    """
    scheme = _label_scheme(params)
    if scheme == "distribution" and params.distribution.proportions_of == "clients":
        return np.arange(samples)
    if scheme == "contiguous" or count == samples:
        return np.arange(count)
    return np.sort(rng.choice(samples, count, replace=False))
