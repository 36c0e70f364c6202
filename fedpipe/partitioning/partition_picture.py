"""The partition at a glance: figures, label mix and size of every client, for ten clients as for 100,000."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from fedpipe.figures import picture

_NAMED_CLIENTS = 40  # up to here each client has its bar and its number
_SINGLE_CLIENTS = 1000  # up to here each client has its column of a pixel or more; beyond, groups have one
_GROUPS = 500
_ROWS = 800  # heights at which the label mix is drawn
_NAMED_LABELS = 20  # up to here each label has its entry in the legend


@dataclass(frozen=True)
class Example:
    """The content of a client's shard: a few of its images [n, h, w, c] and labels [n], and a caption."""

    caption: str
    images: np.ndarray
    labels: np.ndarray


def plot(
    labels: pd.DataFrame, figures: dict[str, Any], title: str, path: Path, examples: list[Example] | None = None
) -> None:
    """Draws ``labels`` (clients x labels, counts) to ``path``.

    From top to bottom: ``figures`` (`skew_measures.summary`), each client's shares of the labels beside those of all
    clients together, sizes, and ``examples`` if there are any. Up to 40 clients are in order of their ids; more are
    sorted, mixes by the largest label and its share, sizes by themselves, and more than 1,000 are drawn as 500 groups
    of neighbours.
    """
    few = len(labels) <= _NAMED_CLIENTS
    table = labels if few else _sorted_by_mix(labels)
    with picture(path, 9.4, 9.8 if examples else 6.4) as figure:
        parts: Any = figure.subfigures(2, 1, height_ratios=[2, 1]) if examples else [figure]
        grid = GridSpec(3, 2, parts[0], height_ratios=[0.55, 3, 1], width_ratios=[40, 1])
        _tiles(parts[0].add_subplot(grid[0, :]), figures, title)
        mix, everyone = parts[0].add_subplot(grid[1, 0]), parts[0].add_subplot(grid[1, 1])
        sizes = parts[0].add_subplot(grid[2, 0], sharex=mix if few else None)
        colours = label_colours(labels.shape[1])
        _stacked(everyone, _shares(labels.sum().to_frame().T), 1, colours)
        everyone.set(xlabel="all", xticks=[], yticks=[])
        everyone.spines[:].set_visible(False)
        edges = _edges(len(table))
        _stacked(mix, _group_means(_shares(table), edges), len(table), colours)
        mix.set_ylabel("share of the client's samples")
        mix.tick_params(labelbottom=False)
        _legend(everyone, labels.columns, colours)
        of_clients = labels.to_numpy().sum(axis=1)
        _sizes(sizes, of_clients if few else np.sort(of_clients), edges)
        if few:
            sizes.set_xlabel("client")
            sizes.set_xticks(np.arange(len(table)) + 0.5, [str(client) for client in table.index])
            sizes.grid(axis="x", visible=False)
        else:
            mix.set_xlabel(f"{len(table):,} clients, sorted by their largest label and its share")
            sizes.set(xlabel=f"{len(table):,} clients, sorted by size", xlim=(0, len(table)))
            sizes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if examples:
            _examples(parts[1], examples)


def label_colours(classes: int) -> list[Any]:
    """A colour a label: matplotlib's lists while they last, else the rainbow in the order of the labels."""
    if classes <= _NAMED_LABELS:
        return list(matplotlib.colormaps["tab10" if classes <= 10 else "tab20"].colors[:classes])  # type: ignore[attr-defined]
    return list(matplotlib.colormaps["turbo"](np.linspace(0, 1, classes)))


def _sorted_by_mix(labels: pd.DataFrame) -> pd.DataFrame:
    """Clients alike stand side by side, or six hundred bars are noise; those without samples stand last."""
    counts = labels.to_numpy()
    sizes = counts.sum(axis=1)
    main = np.where(sizes > 0, counts.argmax(axis=1), counts.shape[1])
    share = counts.max(axis=1) / np.maximum(sizes, 1)
    return labels.iloc[np.lexsort((-share, main))]


def _shares(table: pd.DataFrame) -> np.ndarray:
    counts = table.to_numpy()
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _edges(clients: int) -> np.ndarray:
    """Where the columns of the picture begin and end, in clients: int [columns + 1]."""
    columns = clients if clients <= _SINGLE_CLIENTS else _GROUPS
    return np.arange(columns + 1) * clients // columns


def _group_means(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mean over the clients of each column: [columns, ...] of values [clients, ...]."""
    return np.add.reduceat(values, edges[:-1], axis=0) / np.diff(edges).reshape(-1, *[1] * (values.ndim - 1))


def _tiles(axes: Axes, figures: dict[str, Any], title: str) -> None:
    """The figures, large, with what they are below."""
    axes.set_axis_off()
    axes.set_title(title, fontsize="large", pad=12)
    entropy, variation = figures["entropy"], figures["total_variation"]
    distance, sizes = figures["earth_movers_distance"], figures["sizes"]
    tiles = [
        (
            f"{entropy['mean']:.2f} bits",
            f"label entropy of a client\n(lowest {entropy['min']:.2f}, all: {entropy['of_all']:.2f})",
        ),
        (f"{variation['mean']:.2f}", f"total variation to the mix of all\n(0 to 1; highest {variation['max']:.2f})"),
        (f"{distance['mean']:.2f} labels", f"earth mover's distance to it\n(highest {distance['max']:.2f})"),
        (f"{sizes['gini']:.2f}", "Gini coefficient of the sizes\n(0 equal, 1 one has all)"),
    ]
    for position, (figure, meaning) in enumerate(tiles):
        place = (position + 0.5) / len(tiles)
        axes.text(place, 1, figure, ha="center", va="top", fontsize=16, color="0.1", transform=axes.transAxes)
        axes.text(place, 0.4, meaning, ha="center", va="top", fontsize=9, color="0.35", transform=axes.transAxes)


def _stacked(axes: Axes, shares: np.ndarray, width: int, colours: list[Any]) -> None:
    """Each column's share of every label, stacked to 1; a column without shares stays empty.

    As one image: its time does not grow with columns times labels, as that of bars would.
    """
    heights = (np.arange(_ROWS) + 0.5)[:, None] / _ROWS
    tops = np.cumsum(shares, axis=1)
    label = sum(((top <= heights).astype(np.int64) for top in tops.T), np.zeros((_ROWS, len(shares)), np.int64))
    image = ListedColormap(colours)(np.minimum(label, len(colours) - 1))
    image[:, tops[:, -1] < 0.5] = 0  # transparent
    axes.imshow(image, origin="lower", extent=(0, width, 0, 1), aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(0, 1))
    axes.grid(visible=False)  # it would lie over the image


def _legend(axes: Axes, labels: pd.Index, colours: list[Any]) -> None:
    """Names up to 20 labels one by one; more get a colour bar."""
    if len(labels) <= _NAMED_LABELS:
        handles = [matplotlib.patches.Patch(color=colour) for colour in colours]
        names = [str(label) for label in labels]
        axes.legend(handles, names, title="label", loc="center left", bbox_to_anchor=(1.2, 0.5), reverse=True)
        return
    norm = BoundaryNorm(np.arange(len(labels) + 1) - 0.5, len(labels))
    bar = axes.figure.colorbar(
        ScalarMappable(norm, ListedColormap(colours)), ax=axes, label="label", fraction=0.9, aspect=40, pad=1
    )
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.minorticks_off()


def _sizes(axes: Axes, sizes: np.ndarray, edges: np.ndarray) -> None:
    """How many samples each client has; of a group of clients the mean, and in a lighter tone the range."""
    starts = edges[:-1]
    if len(starts) < len(sizes):
        lowest, highest = np.minimum.reduceat(sizes, starts), np.maximum.reduceat(sizes, starts)
        axes.stairs(highest, edges, baseline=lowest, fill=True, color="0.8", linewidth=0)
        axes.stairs(_group_means(sizes, edges), edges, color="0.3")
    else:
        axes.stairs(sizes, edges, fill=True, color="0.45", linewidth=0)
    axes.set(ylabel="samples", ylim=(0, max(1, sizes.max()) * 1.1))
    spread = f"smallest {sizes.min():,}, median {np.median(sizes):,.0f}, largest {sizes.max():,}"
    axes.set_title(spread, loc="right", fontsize="small")


def _examples(figure: Figure | SubFigure, examples: list[Example]) -> None:
    """One column per client: its caption, and below it its images with the labels that it has them under."""
    figure.suptitle("images as they are in the shards, each with its label there", fontsize="medium")
    rows = max(len(example.images) for example in examples)
    grid = np.asarray(figure.subplots(rows, len(examples), squeeze=False))
    for column, example in enumerate(examples):
        grid[0, column].set_title(example.caption, fontsize=7.5)
        for row, axes in enumerate(grid[:, column]):
            axes.set_axis_off()
            if row < len(example.images):
                axes.imshow(example.images[row].squeeze(), cmap="gray", vmin=0, vmax=255)
                axes.text(1.04, 0.5, str(example.labels[row]), transform=axes.transAxes, va="center", fontsize=9)
