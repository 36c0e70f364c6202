"""A grid: cells that are trained once, and a table that keeps their results.

A cell is one training. Its rows in the table carry its key, which follows from all that decides the training, and the
SHA-256 of its weights. A cell whose rows are there is not run again.
"""

import hashlib
import json
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fedpipe.atomic import atomic_file
from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Section
from fedpipe.config.text import read_yaml
from fedpipe.datasets.raw import Labelled, RawDataset
from fedpipe.errors import PipelineError
from fedpipe.runtime.records import RoundRecord
from layout import RAW

G = TypeVar("G", bound="Grid")
Params = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One training of a grid."""

    labels: dict[str, Any]  # its columns that tell it from the others
    changes: Params  # of section train, from the baseline recipe
    key: str  # of its rows in the table: other values of the grid give another key


class Grid(Section):
    """The file of a grid: data, params that all cells have, and the crossed values."""

    COLUMNS: ClassVar[tuple[str, ...]]  # of the table: first cell, last of the figures weights_sha256

    data: Any  # a section: clients, samples, test images
    base: Params  # as section train of params.yaml

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table."""
        return self.COLUMNS

    @property
    def held_out_clients(self) -> int:
        """How many of the clients never train."""
        return 0

    def cell(self, labels: dict[str, Any], changes: Params) -> Cell:
        """The cell of ``changes``."""
        content = json.dumps([self.data.model_dump(exclude_defaults=True), changes], sort_keys=True)
        return Cell(labels, changes, hashlib.sha256(content.encode()).hexdigest()[:12])

    @abstractmethod
    def cells(self) -> Iterator[Cell]:
        """All cells in order."""

    @abstractmethod
    def images(self) -> tuple[Labelled, Labelled]:
        """Training and test images, with their labels."""

    @abstractmethod
    def clients(self, labels: np.ndarray) -> list[np.ndarray]:
        """The indices of each client's samples among those with these ``labels``; the same for all cells."""

    @abstractmethod
    def rows(self, cell: Cell, rounds: Sequence[RoundRecord]) -> Rows:
        """The figures of a cell's training for the table, without its labels and its weights' SHA-256."""

    @abstractmethod
    def plot(self, table: pd.DataFrame, path: Path) -> None:
        """Draws the table to ``path``, a PNG file."""


def read_grid(kind: type[G], path: Path) -> G:
    """Reads a grid.

    Raises:
      PipelineError: The file is missing or is no grid; the message names the keys that are wrong.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        example = f"operations/grid/{kind.__name__.lower()}.yaml"
        raise PipelineError(f"{path}: {'; '.join(mistakes(error, kind))}; {example} is right") from None


def first_images(training: int, test: int) -> tuple[Labelled, Labelled]:
    """The first training and test images of data/raw, with their labels.

    Raises:
      PipelineError: There are not so many.
    """
    dataset = RawDataset.read(RAW)
    parts = []
    for name, count, (images, labels) in (
        ("training", training, dataset.read_train(RAW)),
        ("test", test, dataset.read_test(RAW)),
    ):
        if count > len(labels):
            raise PipelineError(
                f"the grid's section 'data' asks for {count} {name} images, and {RAW} has {len(labels)}: lower it"
            )
        parts.append((images[:count], labels[:count]))
    return parts[0], parts[1]


def digest(weights: Sequence[np.ndarray]) -> str:
    """SHA-256 of weights."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()


def run_missing(
    name: str, table: Path, columns: Sequence[str], cells: Sequence[Cell], run: Callable[[Cell], tuple[Rows, str]]
) -> pd.DataFrame:
    """The rows of all cells, in order; those that are missing in the table are run, and written one by one.

    ``run`` gives the rows of a cell without their key, which is in the first of the ``columns``, and what to print.

    Raises:
      PipelineError: The file is no table of cells.
    """
    rows = _read(table, columns)
    missing = [cell for cell in cells if cell.key not in rows]
    print(f"{name}: {len(cells)} cells, {len(missing)} to run", file=sys.stderr)
    for number, cell in enumerate(missing, 1):
        new, line = run(cell)
        rows[cell.key] = [{"cell": cell.key} | row for row in new]
        _write(_all(cells, rows, columns), table)
        print(f"{name}: {number}/{len(missing)}: {line}", file=sys.stderr)
    return _all(cells, rows, columns)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All rows of a table, as they are written.

    Raises:
      PipelineError: The file is no table of cells.
    """
    return pd.DataFrame([row for rows in _read(path, columns).values() for row in rows], columns=list(columns))


def _all(cells: Sequence[Cell], rows: Mapping[str, Rows], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame([row for cell in cells for row in rows.get(cell.key, [])], columns=list(columns))


def _read(path: Path, columns: Sequence[str]) -> dict[str, Rows]:
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"cell": str}, float_precision="round_trip")
    if tuple(table.columns) != tuple(columns):
        raise PipelineError(f"{path} is not a table of this command: its columns must be {', '.join(columns)}")
    rows: dict[str, Rows] = {}
    for row in table.to_dict("records"):
        rows.setdefault(str(row["cell"]), []).append({str(name): value for name, value in row.items()})
    return rows


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False)
