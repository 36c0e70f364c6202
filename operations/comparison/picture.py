"""Draws the table: a panel per algorithm, with the baseline in grey behind it."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fedpipe.figures import picture
from operations.comparison.setting import BASELINE

COLUMNS = 5


def draw(table: pd.DataFrame, notes: Mapping[str, str], title: str, path: Path) -> None:
    """Draws test accuracy over the updates that the server has got to ``path``.

    A round of cohorts has as many updates as clients; one of an asynchronous algorithm has fewer.

    Args:
      table: Columns algorithm, updates and test_accuracy; BASELINE is one of the algorithms.
      notes: What stands below the name of an algorithm.
      title: Of the picture.
      path: A PNG file.
    """
    curves = {str(name): rows for name, rows in table.groupby("algorithm", sort=False)}
    others = [name for name in curves if name != BASELINE] or [BASELINE]
    across = min(COLUMNS, len(others))
    down = math.ceil(len(others) / across)
    with picture(path, 1 + 2.1 * across, 0.9 + 1.8 * down) as figure:
        panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(others) :]:
            axes.set_axis_off()
        for axes, name in zip(panels, others, strict=False):
            behind, curve = curves[BASELINE], curves[name]
            axes.plot(behind["updates"], behind["test_accuracy"], color="0.65", linewidth=2.5, label=BASELINE)
            axes.plot(curve["updates"], curve["test_accuracy"], color="C0", linewidth=1.3)
            axes.set_ylim(0, 1)
            axes.set_title(f"{name}\n{notes.get(name, '')}".strip(), fontsize=9)
        for axes in panels[max(0, len(others) - across) : len(others)]:
            axes.tick_params(labelbottom=True)
        panels[0].legend(loc="lower right", fontsize=8)
        figure.supxlabel("clients' updates so far")
        figure.supylabel("test accuracy")
        figure.suptitle(title)
