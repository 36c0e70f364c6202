"""``python -m operations.comparison``: trains every algorithm on the same clients, and draws each beside FedAvg.

Each round of a training that was evaluated is a row of the table, with the clients' updates that the server has got by
then, and the SHA-256 of the weights that the training ends with. An algorithm whose rows are there is not run again, so
a run that was stopped goes on, and a changed setting runs what changed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedpipe import pinning
from fedpipe.errors import run_stage
from fedpipe.simulation import simulate
from operations.cells import Rows, digest, images, run_missing
from operations.comparison import setting as settings_file
from operations.comparison.picture import draw
from operations.comparison.setting import Cell

SETTING = Path("operations/comparison/algorithms.yaml")
TABLE = Path("docs/tables/algorithms.csv")
PICTURE = Path("docs/images/algorithms.png")
COLUMNS = ("cell", "algorithm", "round", "updates", "test_accuracy", "weights_sha256")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, then writes the picture; ``arguments`` default to the process's."""
    given = _parse(arguments)
    pinning.require_avx2()
    setting = settings_file.read(given.setting)
    cells = {cell.key: cell for cell in settings_file.cells(setting)}
    train, test = images(setting.data.samples, setting.data.test)
    clients = settings_file.clients(setting, train[1])

    def run(cell: Cell) -> tuple[Rows, str]:
        result = simulate(*train, clients, cell.settings, test=test)
        last, ends_with = result.rounds[-1].test_accuracy, digest(result.weights)
        updates = np.cumsum([record.clients for record in result.rounds])
        rows = [
            {
                "algorithm": cell.algorithm,
                "round": record.round,
                "updates": total,
                "test_accuracy": record.test_accuracy,
                "weights_sha256": ends_with,
            }
            for record, total in zip(result.rounds, updates.tolist(), strict=True)
            if record.test_accuracy is not None
        ]
        return rows, f"{cell.algorithm}: test accuracy {last:.4f}"

    table = run_missing("comparison", given.table, COLUMNS, cells, run)
    title = f"{setting.data.clients} clients, Dirichlet {setting.data.alpha}"
    draw(table, setting.notes, title, given.picture)
    print(f"comparison: {given.table} and {given.picture}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m operations.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setting", type=Path, default=SETTING, help=f"{SETTING} if not given")
    parser.add_argument("--table", type=Path, default=TABLE, help=f"{TABLE} if not given")
    parser.add_argument("--picture", type=Path, default=PICTURE, help=f"{PICTURE} if not given")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
