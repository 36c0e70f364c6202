"""What `make heatmap` and `make compare` share: cells that are trained once, and a table that keeps their results.

A cell is one training. Its rows in the table carry its key, which follows from all that decides the training, and the
SHA-256 of its weights. A cell whose rows are there is not run again, so a run that was stopped goes on, and a changed
grid runs what changed.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fedpipe.atomic import atomic_file
from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Section
from fedpipe.config.text import read_yaml
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from layout import RAW

S = TypeVar("S", bound=Section)
T = TypeVar("T")
Rows = list[dict[str, Any]]
Arrays = tuple[np.ndarray, np.ndarray]


def read_grid(section: type[S], path: Path, example: Path) -> S:
    """Reads a grid as ``section``.

    Raises:
      PipelineError: The file is missing or is no grid; the message names the keys that are wrong.
    """
    try:
        return section.model_validate(read_yaml(path))
    except ValidationError as error:
        raise PipelineError(f"{path}: {'; '.join(mistakes(error, section))}; {example} is right") from None


def require_repeatable(settings: Train) -> None:
    """Raises PipelineError for a training whose bits nobody gets again."""
    if has_secret_noise(settings):
        raise PipelineError(
            "'train.privacy.noise' is secret, and a table keeps the SHA-256 of weights that can be had again: set it "
            "to seeded"
        )


def key_of(*said: Any) -> str:
    """The key of a cell, from all that decides its training."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def images(training: int, test: int) -> tuple[Arrays, Arrays]:
    """The first training and test images of data/raw, with their labels.

    Raises:
      PipelineError: There are not so many.
    """
    dataset = RawDataset.read(RAW)
    found = dataset.read_train(RAW), dataset.read_test(RAW)
    for what, count, there in (("training", training, found[0]), ("test", test, found[1])):
        if count > len(there[1]):
            raise PipelineError(
                f"the grid's section 'data' asks for {count} {what} images, and {RAW} has {len(there[1])}: lower it"
            )
    (train_images, train_labels), (test_images, test_labels) = found
    return (train_images[:training], train_labels[:training]), (test_images[:test], test_labels[:test])


def digest(weights: Sequence[np.ndarray]) -> str:
    """SHA-256 of weights."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()


def run_missing(
    command: str,
    table: Path,
    columns: Sequence[str],
    cells: Mapping[str, T],
    run: Callable[[T], tuple[Rows, str]],
) -> pd.DataFrame:
    """The rows of all cells, in order; those that are missing in the table are run, and written one by one.

    Args:
      command: Its name, for what is printed.
      table: A CSV file; it need not be there.
      columns: Of the table; the first, ``cell``, has the key.
      cells: By key.
      run: Gives the rows of a cell without their key, and what to print about it.

    Raises:
      PipelineError: The file is no such table.
    """
    rows = _read(table, columns)
    missing = [key for key in cells if key not in rows]
    print(f"{command}: {len(cells)} cells, {len(missing)} to run", file=sys.stderr)
    for number, key in enumerate(missing, 1):
        found, said = run(cells[key])
        rows[key] = [{"cell": key} | row for row in found]
        _write(_all(cells, rows, columns), table)
        print(f"{command}: {number}/{len(missing)}: {said}", file=sys.stderr)
    return _all(cells, rows, columns)


def _all(cells: Mapping[str, Any], rows: Mapping[str, Rows], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame([row for key in cells for row in rows.get(key, [])], columns=list(columns))


def _read(path: Path, columns: Sequence[str]) -> dict[str, Rows]:
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"cell": str, "refused": str}, float_precision="round_trip")
    if tuple(table.columns) != tuple(columns):
        raise PipelineError(f"{path} is not a table of this command: its columns must be {', '.join(columns)}")
    if "refused" in table:
        table["refused"] = table["refused"].fillna("")
    found: dict[str, Rows] = {}
    for row in table.to_dict("records"):
        found.setdefault(str(row["cell"]), []).append({str(name): value for name, value in row.items()})
    return found


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False)
