"""Draws the table: a panel per share of attackers, a row per attack, a column per defence."""

from pathlib import Path

import numpy as np
import pandas as pd

from fedpipe.figures import picture
from operations.heatmap.grid import NO_ATTACK, Grid


def draw(grid: Grid, table: pd.DataFrame, path: Path) -> None:
    """Draws test accuracy, and below it the backdoor's success rate, to ``path``.

    Args:
      grid: What the table is made from.
      table: Columns attack, defence, share, test_accuracy and, for the backdoor, test_backdoor. A cell that was refused
        or has not been run is grey.
      path: A PNG file.
    """
    found = {(row["attack"], row["defence"], row["share"]): row for row in table.to_dict("records")}
    rows = [(NO_ATTACK, "test_accuracy"), *((name, "test_accuracy") for name in grid.attacks)]
    rows += [("backdoor", "test_backdoor")] * ("backdoor" in grid.attacks)
    names = [f"{attack}\nsuccess rate" if column == "test_backdoor" else attack for attack, column in rows]
    defences, panels = list(grid.defences), len(grid.shares)
    with picture(path, 1.8 + panels * (0.8 + 0.5 * len(defences)), 1.8 + 0.5 * len(rows)) as figure:
        for axes, share in zip(np.atleast_1d(figure.subplots(1, panels, sharey=True)), grid.shares, strict=True):
            values = np.full((len(rows), len(defences)), np.nan)
            for y, (attack, column) in enumerate(rows):
                for x, defence in enumerate(defences):
                    row = found.get((attack, defence, 0.0 if attack == NO_ATTACK else share), {})
                    values[y, x] = row.get(column, np.nan)
            # Good is yellow: a high accuracy, a low success rate.
            shown = np.where([[column == "test_backdoor"] for _, column in rows], 1 - values, values)
            axes.set_facecolor("0.85")
            axes.imshow(shown, vmin=0, vmax=1, cmap="viridis", aspect="auto")
            for (y, x), value in np.ndenumerate(values):
                text = "-" if np.isnan(value) else f"{value:.2f}"
                colour = "white" if shown[y, x] < 0.6 else "black"
                axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=8)
            axes.set_xticks(range(len(defences)), defences, rotation=60, ha="right")
            axes.set_yticks(range(len(rows)), names)
            axes.set_title(f"{share:.0%} attackers")
            axes.grid(False)
        figure.suptitle("Test accuracy after the last round; last row: how often the backdoor works")
