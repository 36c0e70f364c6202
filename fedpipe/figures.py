"""How this project draws: one style, and PNG files that depend on the data alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedpipe.atomic import atomic_file

# One meaning per colour in all pictures of results: the samples that a figure is measured on, and kinds of models.
COLOURS = {
    "train": "C0",
    "test": "C1",
    "validation": "C2",
    "personal": "C3",
    "personalised": "C4",
    "epsilon": "C5",
    "held_out": "C6",
}

_STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def styled(width: float, height: float) -> Iterator[Figure]:
    """Yields an empty figure of ``width`` x ``height`` inches in this project's style.

    It is drawn by Agg, which needs no screen and has the same pixels everywhere. pyplot is left out, whose back end is
    the user's, for instance a notebook's.
    """
    # From matplotlib's defaults, not from the user's matplotlibrc.
    style = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with matplotlib.rc_context(cast(Any, style | _STYLE)):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """As `styled`, and saves the figure to ``path`` as a PNG."""
    with styled(width, height) as figure:
        yield figure
        with atomic_file(path) as partial:
            # No "Software" entry: the file must not name the program that wrote it.
            figure.savefig(partial, format="png", metadata={"Software": None})
