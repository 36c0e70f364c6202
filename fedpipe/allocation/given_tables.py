"""Tables that a user gives a scheme to go by: CSV files pinned by their SHA-256."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedpipe.config.pinned_table import PinnedTable
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd


def read_table(key: str, pinned: PinnedTable, columns: list[str]) -> "pd.DataFrame":
    """The CSV file that ``partition.<key>.table`` names, all cells as text.

    Args:
      key: The scheme's section in params.yaml.
      pinned: That section.
      columns: The required columns; the table may have others.

    Raises:
      PipelineError: The file is missing, has another SHA-256 than ``partition.<key>.sha256``, is no CSV file, has
        rows longer than its first line, or lacks a column.
    """
    import pandas as pd  # here, since every stage imports the schemes that have a section, and most read no table

    content, path = pinned.content(f"partition.{key}"), Path(pinned.table)
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


def whole_numbers(table: "pd.DataFrame", column: str, path: str) -> np.ndarray:
    """A column as int [rows].

    Raises:
      PipelineError: A cell is not a whole number from 0 on.
    """
    wrong = ~table[column].str.fullmatch(r"[0-9]{1,15}")
    if wrong.any():
        raise PipelineError(f"{cell(table, column, wrong, path)}, which is not a whole number from 0 on")
    return table[column].to_numpy(np.int64)


def by_client(table: "pd.DataFrame", clients: int, path: str) -> "pd.DataFrame":
    """The table in the order of its column client, which must hold each client once."""
    column = whole_numbers(table, "client", path)
    ordered = np.sort(column)
    if len(ordered) != clients or (ordered != np.arange(clients)).any():
        raise PipelineError(
            f"{path} has {len(column)} rows for {len(np.unique(column))} clients, but must have one for each client "
            f"from 0 to {clients - 1} ('partition.clients' in params.yaml is {clients})"
        )
    return table.iloc[np.argsort(column)].reset_index(drop=True)


def cell(table: "pd.DataFrame", column: str, wrong: "pd.Series[bool]", path: str) -> str:
    """Place and content of the first wrong cell: ``table.csv, row 7: column 'sample' is 'x'``."""
    row = int(np.flatnonzero(wrong)[0])
    client = f", client {table['client'].iloc[row]}" if "client" in table else f", row {row + 1}"
    return f"{path}{client}: column '{column}' is '{table[column].iloc[row]}'"
