"""How this project draws: one style, and PNG files that depend on the data alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")  # no screen needed, and the same pixels everywhere

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from fedpipe.atomic import atomic_file

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
    """Yields an empty figure of ``width`` x ``height`` inches in this project's style; closes it at the end."""
    # From matplotlib's defaults, not from the user's matplotlibrc.
    style = cast(Any, {**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE})
    with matplotlib.rc_context(style):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
        finally:
            plt.close(figure)


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """As `styled`, and saves the figure to ``path`` as a PNG."""
    with styled(width, height) as figure:
        yield figure
        with atomic_file(path) as partial:
            # No "Software" entry: the file is to say nothing about what wrote it.
            figure.savefig(partial, format="png", metadata={"Software": None})
