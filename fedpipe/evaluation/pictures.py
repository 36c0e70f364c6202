"""Evaluation as pictures: where the model errs, and for whom."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedpipe.evaluation.clients import by_cluster
from fedpipe.figures import picture

_NUMBERED_CLASSES = 20  # up to here, counts fit into the fields, and each class has a tick
_OWN_COLOURS = {"personalised": "C2", "personal": "C3"}


def draw_confusion(counts: np.ndarray, title: str, path: Path) -> None:
    """Draws confusion counts [classes, classes] to ``path``, coloured by the share of the actual class.

    The counts stand in the fields up to 20 classes; beyond, only colours are readable.
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
                predicted, actual, str(counts[actual, predicted]), ha="center", va="center", color=colour, fontsize=8
            )
        axes.set(xlabel="predicted", ylabel="actual", title=title)
        if few:
            axes.set_xticks(range(len(counts)))
            axes.set_yticks(range(len(counts)))
        axes.grid(visible=False)
        figure.colorbar(image, label="share of the actual class", shrink=0.8)


def draw_clients(
    clients: pd.DataFrame,
    summary: dict[str, float],
    title: str,
    path: Path,
    test_summary: dict[str, float] | None = None,
    personalisation: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Draws the distribution of the clients' accuracies to ``path``, with worst, 10th percentile and mean.

    With ``test_summary``, that of the column ``test_accuracy``, the accuracies on test samples of their own are a line
    over those on the samples that they train on; each is sorted by itself. So are those of personalised and personal
    models, if ``personalisation`` has them by kind (`personal.spread`). With the column ``cluster``, there is a second
    chart of each cluster's clients.
    """
    clustered = "cluster" in clients
    with picture(path, 13 if clustered else 8, 3.8) as figure:
        axes, *more = figure.subplots(1, 2, squeeze=False)[0] if clustered else [figure.subplots()]
        for other in more:
            _clusters(other, clients)
        accuracies = np.sort(clients["accuracy"].dropna().to_numpy())
        axes.stairs(accuracies, np.arange(len(accuracies) + 1), fill=True, color="C0", alpha=0.7)
        _summary_lines(axes, summary, "0.2", "")
        axes.set(xlabel="client, sorted by accuracy", ylabel="accuracy on own shard", title=title)
        axes.set(xlim=(0, len(accuracies)), ylim=(0, 1))
        own = [(kind, colour) for kind, colour in _OWN_COLOURS.items() if kind in (personalisation or {})]
        if test_summary is None and not own:
            axes.legend(loc="lower right")
            return

        def line(column: str, colour: str, label: str | None = None) -> None:
            values = np.sort(clients[column].dropna().to_numpy())
            # Over the same width, also where some clients have no test samples.
            edges = np.linspace(0, len(accuracies), len(values) + 1)
            axes.stairs(values, edges, color=colour, linewidth=1.8, label=label)

        if test_summary is not None:
            line("test_accuracy", "C1")
            _summary_lines(axes, test_summary, "C1", "own test samples: ")
        for kind, colour in own:
            mean = (personalisation or {})[kind]["mean"]
            line(f"{kind}_accuracy", colour, f"{kind} models: mean {mean:.3f}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _clusters(axes: Axes, clients: pd.DataFrame) -> None:
    """One dot per client with its personal model's accuracy, in the place of its cluster; a line is the mean."""
    for number, values in by_cluster(clients).items():
        axes.plot(number + np.linspace(-0.35, 0.35, len(values)), values, ".", color="C3", alpha=0.7)
        if len(values):
            axes.hlines(values.mean(), number - 0.4, number + 0.4, color="0.2")
    axes.set(xlabel="cluster", ylabel="accuracy of its model", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _summary_lines(axes: Axes, summary: dict[str, float], colour: str, prefix: str) -> None:
    for name, style in (("mean", "-"), ("worst", ":"), ("percentile_10", "--")):
        value = summary[name]
        axes.axhline(value, color=colour, linestyle=style, label=f"{prefix}{name.replace('_', ' ')} {value:.3f}")
