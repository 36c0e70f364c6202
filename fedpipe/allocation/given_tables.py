"""What a user gives a scheme to go by: sizes and proportions, in params.yaml or in a CSV file pinned by its SHA-256."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd

from fedpipe.config import Partition
from fedpipe.config.schemes import PinnedTable
from fedpipe.errors import PipelineError

SUM_TOLERANCE = 1e-3  # proportions written with three digits, such as 0.333, are taken, and scaled to the sum 1


def read_table(key: str, pinned: PinnedTable, columns: list[str]) -> pd.DataFrame:
    """The CSV file that ``partition.<key>.table`` names, all cells as text.

    Args:
      key: The scheme's section in params.yaml.
      pinned: That section.
      columns: What the table must have; others may be there.

    Raises:
      PipelineError: The file is missing, has another SHA-256 than ``partition.<key>.sha256``, is no CSV file, has
        rows longer than its first line, or lacks a column.
    """
    path = Path(pinned.table)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise PipelineError(
            f"params.yaml: 'partition.{key}.table' is '{path}', but there is no such file (a path starts at the "
            "project's top folder)"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != pinned.sha256:
        raise PipelineError(
            f"{path} has the SHA-256 {found}, but 'partition.{key}.sha256' in params.yaml is {pinned.sha256}: another "
            "file is meant, or the new sum belongs there"
        )
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from None
    if not isinstance(table.index, pd.RangeIndex):
        # pandas takes the first cells of the rows for the names of the rows then, and shifts the others.
        raise PipelineError(f"{path} has rows of more cells than the {len(table.columns)} that its first line names")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise PipelineError(
            f"{path} has no column '{missing[0]}'; it needs {', '.join(columns)} and has {', '.join(table.columns)}"
        )
    return table


def whole_numbers(table: pd.DataFrame, column: str, path: str) -> np.ndarray:
    """A column as int [rows].

    Raises:
      PipelineError: A cell is not a whole number from 0 on.
    """
    wrong = ~table[column].str.fullmatch(r"[0-9]{1,15}")
    if wrong.any():
        raise PipelineError(f"{_cell(table, column, wrong, path)}, which is not a whole number from 0 on")
    return table[column].to_numpy(np.int64)


def read_sizes(params: Partition) -> tuple[np.ndarray, str]:
    """The given sizes int [clients], and where they stand, for a message.

    Raises:
      PipelineError: They cannot be read, or are not one for each client.
    """
    given = params.sizes
    if not given.table:
        if len(given.values) != params.clients:
            raise PipelineError(
                f"params.yaml: 'partition.sizes.values' has {len(given.values)} numbers, but 'partition.clients' is "
                f"{params.clients}; there must be one for each client"
            )
        return np.array(given.values, np.int64), "params.yaml: 'partition.sizes.values'"
    table = _by_client(read_table("sizes", given, ["client", "samples"]), params.clients, given.table)
    return whole_numbers(table, "samples", given.table), given.table


def read_proportions(params: Partition, classes: np.ndarray) -> np.ndarray:
    """The given proportions float [clients, labels], scaled to sums of exactly 1.

    Args:
      params: Its ``distribution`` says where they are, and whether rows or columns sum to 1.
      classes: The labels that occur, ascending; a table has a column of each one's name.

    Raises:
      PipelineError: They cannot be read, are not clients x labels, one is negative or not a number, or a sum differs
        from 1 by more than `SUM_TOLERANCE`.
    """
    given = params.distribution
    if given.table:
        where, proportions = given.table, _table_proportions(params, classes)
    else:
        where = "params.yaml: 'partition.distribution.values'"
        widths = sorted({len(row) for row in given.values})
        if len(given.values) != params.clients or widths != [len(classes)]:
            raise PipelineError(
                f"{where} has {len(given.values)} rows of {' or '.join(map(str, widths))} proportions, but must have "
                f"{params.clients} rows (a client each) of {len(classes)} (a label each: {_listed(classes)})"
            )
        proportions = np.array(given.values, np.float64)
    clients = given.proportions_of == "clients"
    sums = proportions.sum(axis=1 if clients else 0)
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(wrong):
        whose = f"client {wrong[0]}" if clients else f"label {classes[wrong[0]]}"
        raise PipelineError(
            f"{where}: the proportions of {whose} sum to {sums[wrong[0]]:.6g}, but must sum to 1 (within "
            f"{SUM_TOLERANCE:g}), as those of each of the {given.proportions_of} must ('partition.distribution."
            "proportions_of' in params.yaml)"
        )
    return proportions / (sums[:, None] if clients else sums)


def _table_proportions(params: Partition, classes: np.ndarray) -> np.ndarray:
    path, names = params.distribution.table, [str(label) for label in classes]
    table = read_table("distribution", params.distribution, ["client", *names])
    others = [column for column in table.columns if column not in ("client", *names)]
    if others:
        raise PipelineError(f"{path} has a column '{others[0]}', but the samples' labels are {_listed(classes)}")
    table = _by_client(table, params.clients, path)
    numbers = table[names].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    for name in names:
        if wrong[name].any():
            raise PipelineError(f"{_cell(table, name, wrong[name], path)}, which is not a proportion from 0 to 1")
    return numbers.to_numpy()


def _by_client(table: pd.DataFrame, clients: int, path: str) -> pd.DataFrame:
    """The table in the order of its column client, which must hold each client once."""
    column = whole_numbers(table, "client", path)
    ordered = np.sort(column)
    if len(ordered) != clients or (ordered != np.arange(clients)).any():
        raise PipelineError(
            f"{path} has {len(column)} rows for {len(np.unique(column))} clients, but must have one for each client "
            f"from 0 to {clients - 1} ('partition.clients' in params.yaml is {clients})"
        )
    return table.iloc[np.argsort(column)].reset_index(drop=True)


def _cell(table: pd.DataFrame, column: str, wrong: "pd.Series[bool]", path: str) -> str:
    """Where the first wrong cell is and what it holds: ``table.csv, row 7: column 'sample' is 'x'``."""
    row = int(np.flatnonzero(wrong)[0])
    client = f", client {table['client'].iloc[row]}" if "client" in table else f", row {row + 1}"
    return f"{path}{client}: column '{column}' is '{table[column].iloc[row]}'"


def _listed(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes))
