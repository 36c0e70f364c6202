"""Pictures of partitions, rounds and predictions that a notebook shows as they are returned (docs/library.md)."""

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedpipe.errors import PipelineError
from fedpipe.figures import styled
from fedpipe.networks.arrays import require_images, require_indices
from fedpipe.partitioning import partition_picture, skew_measures

if TYPE_CHECKING:
    from fedpipe.simulation import Simulation

_COLUMNS = 8  # of images in a picture of predictions


@dataclass(frozen=True)
class Picture:
    """A picture as PNG; a notebook shows it."""

    png: bytes

    def save(self, path: Path | str) -> None:
        """Writes it to a file."""
        Path(path).write_bytes(self.png)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<picture, {len(self.png):,} bytes of PNG>"


def plot_partition(labels: np.ndarray, clients: Sequence[np.ndarray], title: str = "partition") -> Picture:
    """The label mix and the size of each client.

    Args:
      labels: uint8 [samples].
      clients: For each client the indices of its samples.
      title: Above the picture.

    Raises:
      PipelineError: There is no client, or indices are not those of samples.
    """
    indices = require_indices(clients, len(labels))
    classes = int(labels.max()) + 1
    rows = [np.bincount(labels[mine], minlength=classes) for mine in indices]
    table = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="client"), columns=range(classes))
    figures = skew_measures.summary(table, skew_measures.client_measures(table))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        partition_picture.plot(table, figures, title, path)
        return Picture(path.read_bytes())


def plot_rounds(results: "Mapping[str, Simulation]", samples: str = "test") -> Picture:
    """Loss and accuracy of several trainings over their rounds.

    Args:
      results: What `simulate` returned, by the names in the legend.
      samples: Those on which they are measured: test, validation or train.

    Raises:
      PipelineError: No round of a result was measured on these samples.
    """
    with _drawn(9, 3.6) as (figure, taken):
        for axes, column in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for name, result in results.items():
                rows = [(record.round, record.row().get(f"{samples}_{column}")) for record in result.rounds]
                measured = [(number, value) for number, value in rows if value is not None]
                if not measured:
                    raise PipelineError(f"no round of '{name}' has a {samples} {column}: pass {samples}= to simulate")
                axes.plot(*zip(*measured, strict=True), "o-", markersize=3, label=name)
            axes.set(xlabel="round", ylabel=f"{samples} {column}")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
    return taken[0]


def plot_predictions(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Picture:
    """Images, each with its label, the predicted class and its probability; wrong ones in red.

    Args:
      images: uint8 [n, height, width, channels].
      labels: uint8 [n].
      probabilities: float32 [n, classes], of `Simulation.predict`.

    Raises:
      PipelineError: The arrays are not of the same samples.
    """
    require_images("images", images)
    if not len(images) == len(labels) == len(probabilities) > 0:
        raise PipelineError(
            f"there are {len(images)} images, {len(labels)} labels and {len(probabilities)} predictions: give the same "
            "number of each, 1 or more"
        )
    rows = -(-len(images) // _COLUMNS)
    with _drawn(1.2 * _COLUMNS, 1.5 * rows) as (figure, taken):
        grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, image, label, each in zip(grid, images, labels, probabilities, strict=False):
            predicted = int(each.argmax())
            axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
            colour = "0.2" if predicted == label else "C3"
            axes.set_title(f"{label}: {predicted} ({each[predicted]:.0%})", fontsize=8, color=colour)
    return taken[0]


@contextmanager
def _drawn(width: float, height: float) -> Iterator[tuple[Figure, list[Picture]]]:
    """An empty figure, and a list that has the picture when the block has drawn it."""
    taken: list[Picture] = []
    with styled(width, height) as figure:
        yield figure, taken
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        taken.append(Picture(file.getvalue()))
