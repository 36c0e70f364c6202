"""Scheme ``by_column``: a natural partition, in which a table names the client that each sample came from.

Each sample goes to the client that its row in the table names. Clients are numbered in the order of their names: that
of numbers if all of them are whole numbers, else that of text. A sample with an empty name or no row is left out;
there must be ``partition.leave_out`` of them. The table decides the sizes, and nothing is drawn. It names samples by
their numbers among the published training samples, so validation samples are taken from the clients that it names.
Batches of new samples name their clients themselves: a known name joins its client, a new one is a new client.

Source: Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings", where a client is a writer.
https://arxiv.org/abs/1812.01097
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import StringConstraints

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.allocation.given_tables import read_table, whole_numbers
from fedpipe.config.pinned_table import PinnedTable
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd

SEES_ALL_SAMPLES = True
NAMES_SAMPLES = True


class Params(PinnedTable):
    """The table, which has a column ``sample``, and the column that names the sample's client.

    Without a table, the clients are those that the data set names itself (`download.table.client`).
    """

    column: Annotated[str, StringConstraints(min_length=1)]


def decides_sizes(_: Params) -> bool:
    """Always: the table does."""
    return True


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, _: np.random.Generator) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`: int [samples].

    Args:
      labels: int [samples]; only their number counts.
      sizes: int [clients]; only their number and their sum count.
      params: The table.

    Raises:
      PipelineError: The table cannot be read, names a sample that there is not or one twice, leaves out more or fewer
        than ``partition.leave_out``, or names more or fewer clients than ``partition.clients``.
    """
    path, samples, leave_out = params.table, len(labels), len(labels) - int(sizes.sum())
    sample, name = _read(params)
    unknown = np.flatnonzero(sample >= samples)
    if len(unknown):
        raise PipelineError(
            f"{path} names sample {sample[unknown[0]]}, but the {samples} training samples are 0 to {samples - 1} "
            "(new samples have the clients that their batch names)"
        )
    rows = np.bincount(sample, minlength=samples)
    if (rows > 1).any():
        raise PipelineError(f"{path} names sample {np.argmax(rows > 1)} {rows.max()} times; once is right")
    names = _sorted_names(name)
    if len(names) != len(sizes):
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {len(sizes)}, but column '{params.column}' of {path} "
            f"names {len(names)} clients; set it to {len(names)}"
        )
    assignment = np.full(samples, LEFT_OUT, np.int64)
    named = (name != "").to_numpy()
    numbers = {each: client for client, each in enumerate(names)}
    assignment[sample[named]] = name[named].map(numbers)
    left_out = int((assignment == LEFT_OUT).sum())
    if left_out != leave_out:
        first = f" (the first is sample {np.argmin(assignment)})" if left_out else ""
        raise PipelineError(
            f"{path} names no client for {left_out} of the {samples} training samples{first}, but "
            f"'partition.leave_out' in params.yaml is {leave_out}; complete the table, or set it to {left_out}"
        )
    return assignment


def client_names(params: Params) -> list[str]:
    """The name of each client, in the order of their numbers.

    Raises:
      PipelineError: The table cannot be read.
    """
    return _sorted_names(_read(params)[1])


def _read(params: Params) -> tuple[np.ndarray, "pd.Series[str]"]:
    """The samples int [rows], and each one's client's name."""
    table = read_table("by_column", params, ["sample", params.column])
    return whole_numbers(table, "sample", params.table), table[params.column]


def _sorted_names(name: "pd.Series[str]") -> list[str]:
    names = [str(each) for each in name.unique() if each]
    if all(each.isdecimal() and each.isascii() for each in names):
        return sorted(names, key=lambda each: (int(each), each))
    return sorted(names)
