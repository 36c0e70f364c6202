"""``python -m operations.recipe``: sets params.yaml to a recipe of the folder recipes/; ``make repro RECIPE=NAME``.

python -m operations.recipe list           the recipes, with their recorded results
python -m operations.recipe set NAME       writes params.yaml: that of the last commit with the recipe laid over it
python -m operations.recipe compare NAME   compares the workspace's weights with the recorded ones

A recipe is a part of the tree of params.yaml. Its results are those of the table `recipes` (`make table`).
"""

import argparse
import json

from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.spelling import did_you_mean
from layout import PARAMS, TRAINING
from operations.table import definition, records
from operations.table.definition import Table
from operations.table.records import Row
from operations.table.workspace import base_params

TABLE = "recipes"


def set_params(name: str) -> None:
    """Writes params.yaml. Its changes since the last commit are replaced.

    Raises:
      PipelineError: The recipe does not exist, or its params are not allowed; nothing is written.
    """
    table = definition.load(TABLE, base_params("HEAD"))
    text = table.texts[_cell(table, name)]
    if not PARAMS.is_file() or PARAMS.read_text(encoding="utf-8") != text:
        write_text(PARAMS, text)
        print(f"recipe: params.yaml is set to recipe {name}; `git checkout params.yaml` restores the committed params")


def compare(name: str) -> None:
    """Prints how the trained weights compare with the recorded ones.

    Raises:
      PipelineError: The recipe does not exist, or its params changed since the training.
    """
    table = definition.read(TABLE)
    row = records.read(TABLE).get(_cell(table, name))
    trained = json.loads(TRAINING.read_text(encoding="utf-8"))["weights_sha256"]
    if row is None:
        print(f"recipe: {name} has no recorded result: `make table TABLE={TABLE}` records one")
    elif row.weights_sha256 == trained:
        print(f"recipe: {name}: same bits as the recorded run, {_result(row)}")
    else:
        print(
            f"recipe: {name}: other bits than the recorded run, SHA-256 {trained[:12]} where {row.weights_sha256[:12]} "
            f"is recorded; `make verify CELL={TABLE}/{row.cell}` says why"
        )


def list_recipes() -> None:
    """Prints a line per recipe."""
    table = definition.read(TABLE)
    rows = records.read(TABLE)
    for cell in table.cells:
        result = _result(rows[cell.name]) if cell.name in rows else "no recorded result"
        print(f"{cell.labels['recipe']:<14} {result}")


def _cell(table: Table, name: str) -> str:
    names = {cell.labels["recipe"]: cell.name for cell in table.cells}
    if name not in names:
        raise PipelineError(f"there is no recipe '{name}'; recipes/ has {', '.join(names)}" + did_you_mean(name, names))
    return names[name]


def _result(row: Row) -> str:
    minutes = f"{row.seconds / 60:.1f} minutes of training" if row.seconds else "restored from DVC's cache"
    accuracy = f"test accuracy {row.test_accuracy:.4f}" if row.test_accuracy is not None else row.outcome
    return f"{accuracy} after {row.rounds} rounds, {minutes}, SHA-256 {row.weights_sha256[:12]}"


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("repro", "RECIPE"))
    parser.add_argument("command", choices=("list", "set", "compare"))
    parser.add_argument("name", nargs="?", default="", help="of a file of recipes/, without .yaml")
    options = parser.parse_args()
    if options.command == "list":
        list_recipes()
    else:
        {"set": set_params, "compare": compare}[options.command](options.name)


if __name__ == "__main__":
    run_stage(_main)
