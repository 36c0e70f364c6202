"""The partition at a glance: label mix and size of every client, for ten clients as for six hundred."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.pictures import picture

_NAMED_CLIENTS = 40  # up to here each client has its bar and its number


def draw(labels: pd.DataFrame, title: str, path: Path) -> None:
    """Draws ``labels`` (clients x labels, counts) to ``path``: label shares above, sizes below."""
    few = len(labels) <= _NAMED_CLIENTS
    table = labels if few else _sorted_by_mix(labels)
    with picture(path, 11, 6) as figure:
        mix, sizes = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        _label_mix(mix, table)
        mix.set_title(title)
        _sizes(sizes, table)
        sizes.set_xlabel("client" if few else f"{len(table)} clients, sorted by their largest label and its share")
        if few:
            sizes.set_xticks(range(len(table)), [str(client) for client in table.index])
            sizes.grid(axis="x", visible=False)
        else:
            sizes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _sorted_by_mix(labels: pd.DataFrame) -> pd.DataFrame:
    """Clients alike stand side by side, or six hundred bars are noise."""
    counts = labels.to_numpy()
    main = counts.argmax(axis=1)
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return labels.iloc[np.lexsort((-share, main))]


def _edges(table: pd.DataFrame) -> np.ndarray:
    return np.arange(len(table) + 1) - 0.5


def _label_mix(axes: Axes, table: pd.DataFrame) -> None:
    """Each client's share of every label, stacked to 1."""
    counts = table.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    tops = np.cumsum(shares, axis=1)
    bottom = np.zeros(len(table))
    colours = [f"C{label}" for label in range(10)]
    for position, label in enumerate(table.columns):
        axes.stairs(
            tops[:, position],
            _edges(table),
            baseline=bottom,
            fill=True,
            color=colours[position % len(colours)],
            label=str(label),
            linewidth=0,
        )
        bottom = tops[:, position]
    axes.set(ylabel="share of the client's samples", ylim=(0, 1), xlim=(-0.5, len(table) - 0.5))
    axes.legend(title="label", loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)


def _sizes(axes: Axes, table: pd.DataFrame) -> None:
    """How many samples each client has."""
    sizes = table.to_numpy().sum(axis=1)
    axes.stairs(sizes, _edges(table), fill=True, color="0.45", linewidth=0)
    axes.set(ylabel="samples", ylim=(0, max(1, sizes.max()) * 1.1))
    spread = f"smallest {sizes.min():,}, median {np.median(sizes):,.0f}, largest {sizes.max():,}"
    axes.set_title(spread, loc="right", fontsize="small")
