"""``python -m operations.grid NAME``: trains the cells of a grid that have no result yet, and draws its picture.

``robustness`` (``make heatmap``) is attack x defence x share of attackers; ``algorithms`` (``make compare``) has every
algorithm beside FedAvg. A cell whose rows are in the table is not run again, so a run that was stopped resumes, and a
changed grid runs the cells that changed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedpipe import pinning
from fedpipe.baseline import train_settings
from fedpipe.command_line import make_command
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError, run_stage
from fedpipe.simulation import simulate
from operations.grid.algorithms import Algorithms
from operations.grid.cells import Cell, Grid, Rows, digest, read_grid, run_missing
from operations.grid.robustness import Robustness

_MAKE_COMMANDS = {"robustness": "heatmap", "algorithms": "compare"}
GRIDS: dict[str, type[Grid]] = {"robustness": Robustness, "algorithms": Algorithms}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the missing cells, then writes the picture; ``arguments`` default to the process's."""
    options = _parse(arguments)
    name = options.name
    pinning.require_avx2()
    grid = read_grid(GRIDS[name], options.grid or grid_path(name))
    table_path = options.table or Path(f"docs/tables/{name}.csv")
    picture = options.picture or Path(f"docs/images/{name}.png")
    cells = list(grid.cells())
    settings = {cell.key: settings_of(grid, cell) for cell in cells}  # refused before the first training
    train, test = grid.images()
    clients = grid.clients(train[1])

    def run(cell: Cell) -> tuple[Rows, str]:
        """The rows of a cell, and a line to print."""
        labels, allowed = ", ".join(map(str, cell.labels.values())), settings[cell.key]
        if isinstance(allowed, str):
            return [cell.labels | {"refused": allowed}], f"{labels}: {allowed}"
        result = simulate(*train, clients, allowed, test=test, held_out_clients=grid.held_out_clients)
        has_global = not ALGORITHMS.of(allowed.algorithm).HAS_NO_GLOBAL_MODEL
        trained = result.weights if has_global or result.personal is None else result.personal.models
        weights = {"weights_sha256": digest(trained)}
        rows = [cell.labels | row | weights for row in grid.rows(cell, result.rounds)]
        return rows, f"{labels}: test accuracy {rows[-1]['test_accuracy']:.4f}"

    table = run_missing(name, table_path, grid.columns, cells, run)
    grid.plot(table, picture)
    print(f"{name}: {table_path} and {picture}", file=sys.stderr)


def grid_path(name: str) -> Path:
    """The file of a grid of the documentation."""
    return Path(__file__).with_name(f"{name}.yaml")


def settings_of(grid: Grid, cell: Cell) -> Train | str:
    """Section train of a cell, or the refusal, where that is a result (too few clients for a defence, for instance).

    Raises:
      PipelineError: The section is refused, and that is no result, or nobody could get its training's bits again.
    """
    try:
        settings = train_settings(**cell.changes)
    except PipelineError as error:
        if "refused" not in grid.COLUMNS:
            raise
        return str(error)
    if has_secret_noise(settings):
        raise PipelineError(
            "'train.privacy.noise' is secret, and a table keeps the SHA-256 of weights that can be had again: set it "
            "to seeded"
        )
    return settings


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    everything = argparse.ArgumentParser(
        prog="python -m operations.grid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = everything.add_subparsers(dest="name", required=True)
    for name in GRIDS:
        _add_options(names.add_parser(name, **make_command(_MAKE_COMMANDS[name])))
    return everything.parse_args(arguments)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grid", type=Path, help="operations/grid/NAME.yaml if not given")
    parser.add_argument("--table", type=Path, help="docs/tables/NAME.csv if not given")
    parser.add_argument("--picture", type=Path, help="docs/images/NAME.png if not given")


if __name__ == "__main__":
    run_stage(main)
