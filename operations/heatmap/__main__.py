"""``python -m operations.heatmap``: trains every cell of attack x defence x share, and draws the heat map.

Each cell is a row of the table with the SHA-256 of its weights. A cell whose row is there is not run again, so a run
that was stopped goes on, and a changed grid runs what changed.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fedpipe import pinning
from fedpipe.errors import PipelineError, run_stage
from fedpipe.seeds import Purpose, generator
from fedpipe.simulation import simulate
from operations.cells import Arrays, Rows, digest, images, require_repeatable, run_missing
from operations.heatmap import grid as grids
from operations.heatmap.grid import Cell, Grid
from operations.heatmap.picture import draw

GRID = Path("operations/heatmap/robustness.yaml")
TABLE = Path("docs/tables/robustness.csv")
PICTURE = Path("docs/images/robustness.png")
COLUMNS = ("cell", "attack", "defence", "share", "test_accuracy", "test_backdoor", "weights_sha256", "refused")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, then writes the picture; ``arguments`` default to the process's."""
    given = _parse(arguments)
    pinning.require_avx2()
    grid = grids.read(given.grid)
    train, test = images(grid.data.clients * grid.data.samples, grid.data.test)
    cells = {cell.key: cell for cell in grids.cells(grid)}
    table = run_missing("heatmap", given.table, COLUMNS, cells, partial(_run, grid=grid, train=train, test=test))
    draw(grid, table, given.picture)
    print(f"heatmap: {given.table} and {given.picture}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m operations.heatmap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=Path, default=GRID, help=f"{GRID} if not given")
    parser.add_argument("--table", type=Path, default=TABLE, help=f"{TABLE} if not given")
    parser.add_argument("--picture", type=Path, default=PICTURE, help=f"{PICTURE} if not given")
    return parser.parse_args(arguments)


def _run(cell: Cell, grid: Grid, train: Arrays, test: Arrays) -> tuple[Rows, str]:
    """The row of a cell, and what is printed."""
    row = {"attack": cell.attack, "defence": cell.defence, "share": cell.share, "refused": ""}
    where = f"{cell.attack}, {cell.defence}, {cell.share:.0%}"
    try:
        settings = cell.settings()
    except PipelineError as error:  # too few clients for the defence, for instance: that is a result
        return [row | {"refused": str(error)}], f"{where}: {error}"
    require_repeatable(settings)
    order = generator(settings.seed, Purpose.PARTITION).permutation(len(train[1]))
    result = simulate(*train, np.split(order, grid.data.clients), settings, test=test)
    last = result.rounds[-1]
    row |= {"test_accuracy": last.test_accuracy, "test_backdoor": last.others.get("test_backdoor")}
    return [row | {"weights_sha256": digest(result.weights)}], f"{where}: test accuracy {last.test_accuracy:.4f}"


if __name__ == "__main__":
    run_stage(main)
