"""Quantity ``sizes``: each client's number of samples as given, in params.yaml or in a CSV file.

Source: flwr-datasets, ``SizePartitioner``. https://flower.ai/docs/datasets/
"""

import numpy as np

from fedpipe.allocation.given_tables import by_client, read_table, whole_numbers
from fedpipe.config.pinned_table import PinnedTable
from fedpipe.config.section import Size
from fedpipe.errors import PipelineError


class Params(PinnedTable):
    """The sizes, as a list or as a CSV file with the columns client and samples, and the smallest that is allowed."""

    values: list[Size]
    min_size: Size

    def check_chosen(self) -> None:
        """They are given once."""
        if bool(self.values) == bool(self.table):
            raise ValueError("quantity sizes needs either 'partition.sizes.values' or 'partition.sizes.table'")


def sizes(samples: int, clients: int, params: Params, _: np.random.Generator) -> np.ndarray:
    """How many of the ``samples`` each client gets: int [clients].

    Raises:
      PipelineError: The sizes cannot be read, are not one for each client, do not sum to ``samples``, or one is below
        ``min_size``.
    """
    sizes, where = _requested(clients, params)
    smallest = int(sizes.argmin())
    if sizes[smallest] < params.min_size:
        raise PipelineError(
            f"{where} gives client {smallest} {sizes[smallest]} samples, less than the {params.min_size} of "
            "'partition.sizes.min_size' in params.yaml; raise the one or lower the other"
        )
    total = int(sizes.sum())
    if total != samples:
        raise PipelineError(
            f"{where} sums to {total} samples, but {samples} are to be dealt out; let them sum to {samples}, or "
            + (
                f"raise 'partition.leave_out' in params.yaml by {samples - total}"
                if total < samples
                else f"lower 'partition.leave_out' in params.yaml by {total - samples} if it is that much"
            )
        )
    return sizes


def _requested(clients: int, params: Params) -> tuple[np.ndarray, str]:
    """The sizes of the params int [clients], and where they are written, for a message."""
    if not params.table:
        if len(params.values) != clients:
            raise PipelineError(
                f"params.yaml: 'partition.sizes.values' has {len(params.values)} numbers, but 'partition.clients' is "
                f"{clients}; there must be one for each client"
            )
        return np.array(params.values, np.int64), "params.yaml: 'partition.sizes.values'"
    table = by_client(read_table("sizes", params, ["client", "samples"]), clients, params.table)
    return whole_numbers(table, "samples", params.table), params.table
