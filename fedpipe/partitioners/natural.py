"""Scheme ``by_column``: a natural partition, in which a table names the client that each sample came from."""

import numpy as np
import pandas as pd

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.allocation.given_tables import read_table, whole_numbers
from fedpipe.config import Partition
from fedpipe.errors import PipelineError


def by_column(labels: np.ndarray, params: Partition) -> np.ndarray:
    """Each sample goes to the client that its row in the table names.

    Names are numbered in their order (that of numbers if all of them are whole numbers, else that of text):
    `client_names`. A sample with an empty name or no row is left out; there must be ``leave_out`` of them.

    Source: the writers of Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings".

    Raises:
      PipelineError: The table cannot be read, names a sample that there is not or one twice, leaves out more or fewer
        than ``leave_out``, or names more or fewer clients than ``clients``.
    """
    path, samples = params.by_column.table, len(labels)
    sample, name = _read(params)
    unknown = np.flatnonzero(sample >= samples)
    if len(unknown):
        raise PipelineError(
            f"{path} names sample {sample[unknown[0]]}, but the {samples} training samples are 0 to {samples - 1}"
        )
    rows = np.bincount(sample, minlength=samples)
    if (rows > 1).any():
        raise PipelineError(f"{path} names sample {np.argmax(rows > 1)} {rows.max()} times; once is right")
    names = _sorted_names(name)
    if len(names) != params.clients:
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {params.clients}, but column '{params.by_column.column}' of {path} "
            f"names {len(names)} clients; set it to {len(names)}"
        )
    assignment = np.full(samples, LEFT_OUT, np.int64)
    named = (name != "").to_numpy()
    assignment[sample[named]] = pd.Index(names).get_indexer(pd.Index(name[named]))
    left_out = int((assignment == LEFT_OUT).sum())
    if left_out != params.leave_out:
        first = f" (the first is sample {np.argmin(assignment)})" if left_out else ""
        raise PipelineError(
            f"{path} names no client for {left_out} of the {samples} training samples{first}, but "
            f"'partition.leave_out' in params.yaml is {params.leave_out}; complete the table, or set it to {left_out}"
        )
    return assignment


def client_names(params: Partition) -> pd.DataFrame:
    """Columns client and name, one row a client.

    Raises:
      PipelineError: The table cannot be read.
    """
    names = _sorted_names(_read(params)[1])
    return pd.DataFrame({"client": np.arange(len(names)), "name": names})


def _read(params: Partition) -> tuple[np.ndarray, "pd.Series[str]"]:
    """The samples int [rows], and each one's client's name."""
    given = params.by_column
    table = read_table("by_column", given, ["sample", given.column])
    return whole_numbers(table, "sample", given.table), table[given.column]


def _sorted_names(name: "pd.Series[str]") -> list[str]:
    names = [str(one) for one in name.unique() if one]
    if all(one.isdecimal() and one.isascii() for one in names):
        return sorted(names, key=lambda one: (int(one), one))
    return sorted(names)
