"""The picture of a table: test accuracy per round, one colour per group, one line per seed."""

from collections.abc import Sequence

import pandas as pd

from fedpipe.figures import picture
from operations.table.definition import Table
from operations.table.groups import Group
from operations.table.records import RESULTS, read_params

NAME = "curves.png"
_COLOURS = 10  # of matplotlib's default cycle


def plot(table: Table, groups: Sequence[Group], rounds: pd.DataFrame) -> bool:
    """Draws the curves of the groups' best cells.

    Returns:
      Whether there are any.
    """
    if not len(rounds):
        return False
    with picture(RESULTS / table.name / NAME, 8, 4) as figure:
        axes = figure.subplots()
        targets, params = set(), read_params(table.name)
        for number, group in enumerate(groups):
            name = ", ".join([*group.labels, *(f"{axis} {value}" for axis, value in _grid(table, group))])
            for place, cell in enumerate(group.cells):
                curve = rounds[rounds["cell"] == cell.name]
                label = name if place == 0 else None
                colour, style = f"C{number % _COLOURS}", "-" if number < _COLOURS else "--"
                marker = "o" if len(curve) < 2 else None  # a single point has no line
                axes.plot(
                    curve["round"],
                    curve["test_accuracy"],
                    linestyle=style,
                    marker=marker,
                    color=colour,
                    label=label,
                    linewidth=1.2,
                )
                targets.add(params[cell.name]["train"]["stop_at"]["accuracy"])
        for target in sorted(target for target in targets if target is not None):
            axes.axhline(target, color="0.4", linestyle=":", linewidth=1)
        axes.set(xlabel="round", ylabel="accuracy on the test images", title=table.name)
        axes.legend(loc="lower right", fontsize=8)
    return True


def _grid(table: Table, group: Group) -> list[tuple[str, str]]:
    return list(zip(table.definition.grid, group.best, strict=True))
