"""The picture of a table: test accuracy per round, one colour per group, with the seeds' range and published points."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fedpipe.figures import picture
from operations.table.definition import Table
from operations.table.groups import Group
from operations.table.records import RESULTS, read_params

NAME = "curves.png"
_COLOURS = 10  # of matplotlib's default cycle
_STEPS = 20  # per 1: the axis begins at a multiple of 0.05
_HIGHEST_BEGIN = 0.95


def plot(table: Table, groups: Sequence[Group], rounds: pd.DataFrame, path: Path | None = None) -> bool:
    """Draws the curves of the groups' best cells to ``path``; if not given, beside the table's results.

    The axis begins below the lowest last accuracy, so that the range that is compared fills it.

    Returns:
      Whether there are any.
    """
    if not len(rounds):
        return False
    with picture(path or RESULTS / table.name / NAME, 8.2, 5) as figure:
        axes = figure.subplots()
        targets, params, lowest = set(), read_params(table.name), []
        for number, group in enumerate(groups):
            name = ", ".join([*group.labels, *(f"{axis} {value}" for axis, value in _grid(table, group))])
            curves = [rounds[rounds["cell"] == cell.name].set_index("round")["test_accuracy"] for cell in group.cells]
            colour, style = f"C{number % _COLOURS}", "-" if number < _COLOURS else "--"
            last = _plot_group(axes, pd.concat(curves, axis=1), name, colour, style)
            lowest.append(last)
            for cell in group.cells:
                targets.add(params[cell.name]["train"]["stop_at"]["accuracy"])
            lowest += _plot_published(axes, table, group, colour, params[group.cells[0].name]["train"])
        for target in sorted(target for target in targets if target is not None):
            axes.axhline(target, color="0.4", linestyle=":", linewidth=1, label=f"target {target:g}")
        begin = min(math.floor((min(lowest) - 0.005) * _STEPS) / _STEPS, _HIGHEST_BEGIN)
        axes.set(xlabel="round", ylabel="accuracy on the test images", title=_title(table), ylim=(begin, 1))
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return True


def _plot_group(axes: Axes, curves: pd.DataFrame, name: str, colour: str, style: str) -> float:
    """Draws the mean over the seeds, and as a band their spread; returns the last mean.

    Args:
      axes: Where to draw.
      curves: Accuracy by round, one column per seed; NaN after a seed's last round.
      name: For the legend.
      colour: Of line and band.
      style: Of the line.
    """
    curves = curves.sort_index()
    known = curves.ffill()  # a run that has stopped keeps its accuracy
    mean = known.mean(axis=1)
    marker = "o" if len(mean) < 2 else None  # a single point has no line
    axes.plot(mean.index, mean, linestyle=style, marker=marker, color=colour, label=name, linewidth=1.4)
    if curves.shape[1] > 1:
        axes.fill_between(mean.index, known.min(axis=1), known.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    return float(mean.iloc[-1])


def _plot_published(axes: Axes, table: Table, group: Group, colour: str, train: Mapping[str, Any]) -> list[float]:
    """Draws the published figures of a group as stars; returns their accuracies."""
    accuracies = []
    for published in table.definition.published:
        for figure in published.figures:
            if tuple(str(figure[axis]) for axis in table.definition.group_axes) != tuple(group.labels):
                continue
            is_rounds = (published.measure or table.definition.measure) == "rounds_to_target"
            x, y = (figure["value"], train["stop_at"]["accuracy"]) if is_rounds else (train["rounds"], figure["value"])
            if y is None or not np.isfinite([x, y]).all():
                continue
            axes.plot([x], [y], "*", color=colour, markersize=10, markeredgecolor="white", clip_on=False, zorder=5)
            accuracies.append(float(y))
    return accuracies


def _title(table: Table) -> str:
    parts = [table.name]
    if len(table.definition.seeds) > 1:
        parts.append("mean and range over the seeds")
    if table.definition.published:
        parts.append("stars: published")
    return "; ".join(parts)


def _grid(table: Table, group: Group) -> list[tuple[str, str]]:
    return list(zip(table.definition.grid, group.best, strict=True))
