"""Evaluation as pictures: where the model errs, and for whom."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedpipe.evaluation.clients import by_cluster, personal_column
from fedpipe.figures import COLOURS, picture

_NUMBERS = 4  # of a label that are drawn
_NUMBERED_CLASSES = 20  # up to here, counts fit into the fields, and each class has a tick
# Columns that are drawn as lines: their colour, and how the legend calls them unless it has their summary.
_LINES = {
    "test_accuracy": (COLOURS["test"], None),
    "test_personalised_accuracy": (COLOURS["personalised"], "test, personalised models"),
    "test_personal_accuracy": (COLOURS["personal"], "test, personal models"),
    "train_personal_accuracy": (COLOURS["personal"], "train, personal models"),
    "held_out_accuracy": (COLOURS["held_out"], "clients that never trained"),
}


def draw_confusion(counts: np.ndarray, title: str, path: Path) -> None:
    """Draws confusion counts [classes, classes] to ``path``, coloured by the share of the actual class.

    Up to 20 classes, the fields show their counts; beyond, only colours are readable.
    """
    few = len(counts) <= _NUMBERED_CLASSES
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A field keeps its size from ten classes on, up to a picture that still fits a screen.
    side = 0.55 * min(max(len(counts), 10), 2 * 10)
    with picture(path, side + 0.9, side + 0.1) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for actual, predicted in np.ndindex(counts.shape) if few else ():
            colour = "white" if shares[actual, predicted] > 0.5 else "0.25"
            axes.text(
                predicted,
                actual,
                str(counts[actual, predicted]),
                ha="center",
                va="center",
                color=colour,
                fontsize=10 if len(counts) <= 10 else 8,
            )
        axes.set(xlabel="predicted", ylabel="actual", title=title)
        if few:
            axes.set_xticks(range(len(counts)))
            axes.set_yticks(range(len(counts)))
        axes.grid(visible=False)
        figure.colorbar(image, label="share of the actual class", shrink=0.8)


def draw_numbers(actual: np.ndarray, predicted: np.ndarray, names: Sequence[str], title: str, path: Path) -> None:
    """Draws predicted against actual numbers [n, numbers] to ``path``: a chart for each of the first four."""
    shown = range(min(len(names), _NUMBERS))
    with picture(path, 1 + 4.6 * len(shown), 5) as figure:
        figure.suptitle(title, fontsize="medium")
        for place, axes in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
            ends = [actual[:, place].min(), actual[:, place].max()]
            axes.plot(ends, ends, color="0.4", linewidth=1)
            axes.plot(actual[:, place], predicted[:, place], ".", color="C0", alpha=0.5, markersize=3, rasterized=True)
            axes.set(xlabel=f"actual {names[place]}", ylabel=f"predicted {names[place]}")


def draw_clients(
    clients: pd.DataFrame, summaries: Mapping[str, Mapping[str, float] | None], title: str, path: Path
) -> None:
    """Draws the distribution of the clients' accuracies to ``path``, with worst, 10th percentile and mean.

    Accuracies on training samples are filled; those on test samples of the clients' own, and those of personalised and
    personal models, are lines over them. Each is sorted by itself. With the column ``cluster``, there is a second chart
    of each cluster's clients.

    Args:
      clients: The table of clients.
      summaries: Those of the columns train_accuracy and test_accuracy (`fairness.spread`), by ``train`` and ``test``;
        None where the column is missing.
      title: Of the picture.
      path: A PNG file.
    """
    clustered = "cluster" in clients
    with picture(path, 11 if clustered else 8, 3.8) as figure:
        axes, *more = figure.subplots(1, 2, squeeze=False)[0] if clustered else [figure.subplots()]
        for other in more:
            _clusters(other, clients)
        accuracies = np.sort(clients["train_accuracy"].dropna().to_numpy())
        if not len(accuracies):  # withheld, where the noise of the training is secret
            axes.set(title=title, xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no accuracies", ha="center", va="center", transform=axes.transAxes)
            return
        axes.stairs(accuracies, np.arange(len(accuracies) + 1), fill=True, color=COLOURS["train"], alpha=0.7)
        lines = {column: style for column, style in _LINES.items() if column in clients}
        samples = "training and test" if any(column.startswith("test_") for column in lines) else "training"
        axes.set(xlabel="client, sorted by accuracy", ylabel=f"accuracy on {samples} samples", title=title)
        axes.set(xlim=(0, len(accuracies)), ylim=(0, 1))
        for column, (colour, label) in lines.items():
            values = np.sort(clients[column].dropna().to_numpy())
            # Over the same width, also where some clients have no test samples.
            edges = np.linspace(0, len(accuracies), len(values) + 1)
            shown = label and f"{label}: mean {values.mean() if len(values) else math.nan:.3f}"
            axes.stairs(values, edges, color=colour, linewidth=1.8, label=shown)
        for samples, colour in (("train", "0.2"), ("test", COLOURS["test"])):
            if summary := summaries.get(samples):
                _summary_lines(axes, summary, colour, f"{samples}: ")
        axes.legend(**({"loc": "center left", "bbox_to_anchor": (1, 0.5)} if lines else {"loc": "lower right"}))


def _clusters(axes: Axes, clients: pd.DataFrame) -> None:
    """One dot per client with its personal model's accuracy, in the place of its cluster; a line is the mean."""
    for number, values in by_cluster(clients).items():
        axes.plot(number + np.linspace(-0.35, 0.35, len(values)), values, ".", color=COLOURS["personal"], alpha=0.7)
        if len(values):
            axes.hlines(values.mean(), number - 0.4, number + 0.4, color="0.2")
    samples = str(personal_column(clients)).partition("_")[0]
    axes.set(xlabel="cluster", ylabel=f"accuracy of its model ({samples})", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _summary_lines(axes: Axes, summary: Mapping[str, float], colour: str, prefix: str) -> None:
    for name, style in (("mean", "-"), ("worst", ":"), ("percentile_10", "--")):
        value = summary[name]
        axes.axhline(value, color=colour, linestyle=style, label=f"{prefix}{name.replace('_', ' ')} {value:.3f}")
