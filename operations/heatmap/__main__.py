"""``python -m operations.heatmap``: trains every cell of attack x defence x share, and draws the heat map.

Each cell is a row of the table with the SHA-256 of its weights. A cell whose row is there is not run again, so a run
that was stopped goes on, and a changed grid runs what changed.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedpipe import pinning
from fedpipe.atomic import atomic_file
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.seeds import Purpose, generator
from fedpipe.simulation import simulate
from operations.heatmap import grid as grids
from operations.heatmap.grid import Cell, Grid
from operations.heatmap.picture import draw

RAW = Path("data/raw")
GRID = Path("operations/heatmap/robustness.yaml")
TABLE = Path("docs/tables/robustness.csv")
PICTURE = Path("docs/images/robustness.png")
COLUMNS = ("cell", "attack", "defence", "share", "test_accuracy", "test_backdoor", "weights_sha256", "refused")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, then writes the picture; ``arguments`` default to the process's."""
    given = _parse(arguments)
    pinning.require_avx2()
    grid = grids.read(given.grid)
    data = _data(grid)
    wanted = list(grids.cells(grid))
    rows = _rows(given.table, {cell.key for cell in wanted})
    missing = [cell for cell in wanted if cell.key not in rows]
    print(f"heatmap: {len(wanted)} cells, {len(missing)} to run", file=sys.stderr)
    for number, cell in enumerate(missing, 1):
        rows[cell.key] = _run(cell, grid, *data)
        _write([rows[one.key] for one in wanted if one.key in rows], given.table)
        said = rows[cell.key]["refused"] or f"test accuracy {rows[cell.key]['test_accuracy']:.4f}"
        where = f"{cell.attack}, {cell.defence}, {cell.share:.0%}"
        print(f"heatmap: {number}/{len(missing)}: {where}: {said}", file=sys.stderr)
    draw(grid, pd.DataFrame([rows[cell.key] for cell in wanted], columns=COLUMNS), given.picture)
    print(f"heatmap: {given.table} and {given.picture}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m operations.heatmap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=Path, default=GRID, help=f"{GRID} if not given")
    parser.add_argument("--table", type=Path, default=TABLE, help=f"{TABLE} if not given")
    parser.add_argument("--picture", type=Path, default=PICTURE, help=f"{PICTURE} if not given")
    return parser.parse_args(arguments)


Arrays = tuple[np.ndarray, np.ndarray]


def _data(grid: Grid) -> tuple[Arrays, Arrays]:
    """Training and test images with their labels.

    Raises:
      PipelineError: There are not as many as the grid asks for.
    """
    dataset, wanted = RawDataset.read(RAW), grid.data
    train, test = dataset.read_train(RAW), dataset.read_test(RAW)
    for what, count, there in (("training", wanted.clients * wanted.samples, train), ("test", wanted.test, test)):
        if count > len(there[1]):
            raise PipelineError(
                f"the grid's section 'data' asks for {count} {what} images, and {RAW} has {len(there[1])}: lower it"
            )
    size = wanted.clients * wanted.samples
    return (train[0][:size], train[1][:size]), (test[0][: wanted.test], test[1][: wanted.test])


def _run(cell: Cell, grid: Grid, train: Arrays, test: Arrays) -> dict[str, Any]:
    """The row of a cell."""
    row = {"cell": cell.key, "attack": cell.attack, "defence": cell.defence, "share": cell.share, "refused": ""}
    try:
        settings = cell.settings()
    except PipelineError as error:  # too few clients for the defence, for instance: that is a result
        return row | {"refused": str(error)}
    order = generator(settings.seed, Purpose.PARTITION).permutation(len(train[1]))
    result = simulate(*train, np.split(order, grid.data.clients), settings, test=test)
    last = result.rounds[-1]
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in result.weights)).hexdigest()
    figures = {"test_accuracy": last.test_accuracy, "test_backdoor": last.others.get("test_backdoor")}
    return row | figures | {"weights_sha256": digest}


def _rows(path: Path, keys: set[str]) -> dict[str, dict[str, Any]]:
    """The rows that are there, by their cell; those of other grids are left out.

    Raises:
      PipelineError: The file is no such table.
    """
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"cell": str, "refused": str}, float_precision="round_trip")
    if tuple(table.columns) != COLUMNS:
        raise PipelineError(f"{path} is not a table of this command: its columns must be {', '.join(COLUMNS)}")
    table["refused"] = table["refused"].fillna("")
    return {
        str(row["cell"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records") if row["cell"] in keys
    }


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(partial, index=False)


if __name__ == "__main__":
    run_stage(main)
