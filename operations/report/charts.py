"""The report's charts: SVG that takes its colours from the page's theme, light or dark.

Each function returns an address (``data:image/svg+xml``) that holds the picture. In a chart of two runs the first
is drawn in the first colour with a full line, the second in the second with a dashed one.
"""

import base64
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from fedpipe.evaluation.clients import by_cluster
from fedpipe.figures import styled

# Stand-ins while matplotlib draws; the SVG's own style says what they are in light and in dark.
_INK, _FIRST, _SECOND = "#010203", "#010204", "#010205"
_THEMED = {_INK: ("#24292f", "#d5dbe2"), _FIRST: ("#1f6fb4", "#6cb6ff"), _SECOND: ("#c2571a", "#f0a35e")}
_COLOURS, _LINES = (_FIRST, _SECOND), ("-", "--")
_MORE, _LESS = "#3b82c4", "#d9534f"  # readable behind ink in both themes

_SVG_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "svg.hashsalt": "fedpipe",  # else the ids are random
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "axes.facecolor": "none",
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

Over = Literal["rounds", "hours", "bytes"]  # the x axis of curves: rounds, simulated hours, or bytes down and up

_NUMBERED_CLASSES = 20  # up to here a confusion matrix has its counts in it, and a class its bar
_MARKED_ROUNDS = 50  # up to here each round has its dot


class _Chart:
    """A chart in the making; ``address`` holds it once it is drawn."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.address = ""


@contextmanager
def _chart(width: float, height: float) -> Iterator[_Chart]:
    """Yields a chart of ``width`` x ``height`` inches to draw on."""
    with styled(width, height) as figure, matplotlib.rc_context(_SVG_STYLE):
        figure.patch.set_alpha(0)
        chart = _Chart(figure.subplots())
        yield chart
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
        chart.address = _address(written.getvalue())


def _address(svg: str) -> str:
    names = {colour: f"--c{number}" for number, colour in enumerate(_THEMED)}
    for colour, name in names.items():
        svg = svg.replace(colour, f"var({name})")
    light = ";".join(f"{names[colour]}:{themes[0]}" for colour, themes in _THEMED.items())
    dark = ";".join(f"{names[colour]}:{themes[1]}" for colour, themes in _THEMED.items())
    style = (
        f"<style>:root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "text{font-family:system-ui,sans-serif!important}</style>"
    )
    svg = re.sub(r"(<svg\b[^>]*>)", lambda opening: opening[1] + style, svg, count=1)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def curves(tables: Sequence[pd.DataFrame], names: Sequence[str], column: str, label: str, over: Over = "rounds") -> str:
    """A column of metrics/rounds.csv over the rounds, or over what they took until then; one line per run."""
    title, positions = positions_on_x(tables, over)
    with _chart(5.2, 3.2) as chart:
        for table, x, name, colour, line in zip(tables, positions, names, _COLOURS, _LINES, strict=False):
            known = table[column].notna()
            _line(chart.axes, x[known], table[column][known], name, colour, line)
        chart.axes.set(xlabel=title, ylabel=label, ylim=(0, 1) if column.endswith("accuracy") else (0, None))
        if over == "rounds":
            chart.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            chart.axes.set_xlim(0, None)
        _legend(chart.axes, names)
    return chart.address


def client_bands(tables: Sequence[pd.DataFrame], names: Sequence[str], column: str, label: str) -> str:
    """A column of metrics/client_rounds.csv over the rounds: median, 10th to 90th percentile, lowest and highest."""
    with _chart(5.2, 3.2) as chart:
        for table, name, colour, line in zip(tables, names, _COLOURS, _LINES, strict=False):
            of_round = table.dropna(subset=[column]).groupby("round")[column]
            low, middle, high = (of_round.quantile(share) for share in (0.1, 0.5, 0.9))
            chart.axes.fill_between(low.index, low, high, color=colour, alpha=0.2, linewidth=0)
            for end in (of_round.min(), of_round.max()):
                chart.axes.plot(end.index, end, ":", color=colour, linewidth=0.8)
            _line(chart.axes, middle.index.to_series(), middle, name, colour, line)
        chart.axes.set(xlabel="round", ylabel=label, ylim=(0, 1) if column.endswith("accuracy") else (0, None))
        chart.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(chart.axes, names)
    return chart.address


def positions_on_x(tables: Sequence[pd.DataFrame], over: Over) -> tuple[str, list[pd.Series]]:
    """The title of the x axis, and where each round of each run is on it."""
    if over == "rounds":
        return "round", [table["round"] for table in tables]
    if over == "hours":
        return "simulated hours", [table["simulated_hours"].cumsum() for table in tables]
    sent = [(table["bytes_down"] + table["bytes_up"]).cumsum() for table in tables]
    unit, factor = ("GB", 1e9) if max(float(each.iloc[-1]) for each in sent) >= 1e9 else ("MB", 1e6)
    return f"{unit} sent, down and up", [each / factor for each in sent]


def _line(axes: Axes, x: pd.Series, y: pd.Series, name: str, colour: str, line: str) -> None:
    marker = "o" if len(x) <= _MARKED_ROUNDS else ""
    axes.plot(x, y, line, marker=marker, markersize=3, color=colour, label=name)


def client_histogram(accuracies: Sequence[pd.Series], names: Sequence[str]) -> str:
    """How many clients have which accuracy; twenty bins that all runs share."""
    known = [values.dropna().to_numpy() for values in accuracies]
    edges = np.linspace(min((values.min() for values in known if len(values)), default=0.0), 1, 21)
    if edges[0] == 1:
        edges = np.linspace(0, 1, 21)
    with _chart(5.2, 3.2) as chart:
        for values, name, colour, line in zip(known, names, _COLOURS, _LINES, strict=False):
            counts = np.histogram(values, edges)[0]
            chart.axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
            chart.axes.stairs(counts, edges, color=colour, linestyle=line, label=name)
        chart.axes.set(xlabel="accuracy", ylabel="clients")
        chart.axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(chart.axes, names)
    return chart.address


def client_quantiles(accuracies: Sequence[pd.Series], names: Sequence[str]) -> str:
    """Accuracy of the clients from the worst to the best, over the share of clients, so that any two runs compare."""
    with _chart(5.2, 3.2) as chart:
        for values, name, colour, line in zip(accuracies, names, _COLOURS, _LINES, strict=False):
            ranked = np.sort(values.dropna().to_numpy())
            shares = np.linspace(0, 100, len(ranked) + 1)
            chart.axes.stairs(ranked, shares, baseline=None, color=colour, linestyle=line, label=name, linewidth=1.5)
        chart.axes.axvline(10, color=_INK, linewidth=0.8, linestyle=":", alpha=0.6)
        chart.axes.set(xlabel="% of clients, the worst first", ylabel="accuracy", xlim=(0, 100), ylim=(0, 1))
        _legend(chart.axes, names)
    return chart.address


def clusters(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> str:
    """One dot per client: the accuracy of its cluster's model, in the place of its cluster."""
    with _chart(10.6, 3.2) as chart:
        for run, (table, name) in enumerate(zip(tables, names, strict=True)):
            groups, left = by_cluster(table), -0.4 + 0.8 * run / len(tables)
            places = [number + left + np.linspace(0, 0.7 / len(tables), len(mine)) for number, mine in groups.items()]
            values = np.concatenate(list(groups.values()))
            chart.axes.plot(np.concatenate(places), values, ".", color=_COLOURS[run], alpha=0.7, label=name)
        chart.axes.set(xlabel="cluster", ylabel="accuracy of its model", ylim=(0, 1))
        chart.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(chart.axes, names, above=True)
    return chart.address


def recall(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> str:
    """Recall of each class: bars, or steps where there are many classes."""
    every = sorted({label for table in tables for label in table["class"]})
    with _chart(10.6, 3.2) as chart:
        axes = chart.axes
        for number, (table, name) in enumerate(zip(tables, names, strict=True)):
            values = table.set_index("class")["recall"].reindex(every).fillna(0).to_numpy()
            if len(every) <= _NUMBERED_CLASSES:
                width = 0.8 / len(tables)
                at = np.arange(len(every)) - 0.4 + width * (number + 0.5)
                axes.bar(at, values, width * 0.92, color=_COLOURS[number], label=name)
            else:
                axes.stairs(
                    values,
                    np.arange(len(every) + 1) - 0.5,
                    color=_COLOURS[number],
                    linestyle=_LINES[number],
                    label=name,
                )
        axes.set(xlabel="class", ylabel="recall", ylim=(0, 1), xlim=(-0.6, len(every) - 0.4))
        if len(every) <= _NUMBERED_CLASSES:
            axes.set_xticks(range(len(every)), [str(label) for label in every])
            axes.grid(axis="x", visible=False)
        _legend(axes, names, above=True)
    return chart.address


def confusion(counts: np.ndarray) -> str:
    """Confusion counts [classes, classes], coloured by the share of the actual class."""
    return _matrix(_shares(counts), lambda at: f"{counts[at]:,}" if counts[at] else "")


def confusion_change(first: np.ndarray, second: np.ndarray) -> str:
    """By how many percentage points of the actual class the second run's confusion differs from the first's."""
    change = _shares(second) - _shares(first)
    return _matrix(change, lambda at: f"{100 * change[at]:+.0f}" if abs(change[at]) >= 0.005 else "")


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _matrix(values: np.ndarray, text: Callable[[tuple[int, ...]], str]) -> str:
    """Cells from -1 to 1, as transparent as they are near 0, so that the page's ground shows."""
    pixels = np.empty((*values.shape, 4))
    pixels[..., :3] = np.where(values[..., None] >= 0, to_rgb(_MORE), to_rgb(_LESS))
    pixels[..., 3] = np.abs(values)
    with _chart(5.2, 4.8) as chart:
        axes = chart.axes
        axes.imshow(pixels, interpolation="none")
        if len(values) <= _NUMBERED_CLASSES:
            for at in np.ndindex(values.shape):
                axes.text(at[1], at[0], text(at), ha="center", va="center", fontsize=11 if len(values) <= 10 else 8)
            axes.set_xticks(range(len(values)))
            axes.set_yticks(range(len(values)))
        axes.set(xlabel="predicted", ylabel="actual")
        axes.grid(visible=False)
    return chart.address


def _legend(axes: Axes, names: Sequence[str], above: bool = False) -> None:
    """Names the lines, where there is more than one."""
    if len(names) > 1:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": len(names)} if above else {"loc": "best"}
        axes.legend(**place)
