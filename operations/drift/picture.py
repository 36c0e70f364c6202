"""Drift at a glance: label mixes side by side, and the mean image before, now, and their difference."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from fedpipe.datasets.raw import Labelled
from fedpipe.figures import picture
from operations.drift.measures import Profile, expected_image, shares, shifts

_VALUES = 30  # that are drawn


def plot(former: Profile, new: Labelled, title: str, path: Path) -> None:
    """Draws all new samples against the former ones to ``path``."""
    images, labels = new
    classes = len(former.counts)
    if former.deviations is not None:
        _draw_values(former, new, title, path)
        return
    with picture(path, 11, 6) as figure:
        grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.3])
        _label_mix(figure.add_subplot(grid[0, :]), former.counts, np.bincount(labels, minlength=classes))
        before, now = expected_image(former, labels), images.mean(axis=0) / 255
        panels = {"mean image before, same labels": before, "mean image of the new data": now}
        for column, (name, image) in enumerate(panels.items()):
            _image(figure.add_subplot(grid[1, column]), name, image, 0, 1, "gray")
        difference = (now - before).mean(axis=-1, keepdims=True)
        limit = max(float(np.abs(difference).max()), 0.05)
        _image(figure.add_subplot(grid[1, 2]), f"difference (±{limit:.2f})", difference, -limit, limit, "RdBu_r")
        figure.suptitle(title)


def _draw_values(former: Profile, new: Labelled, title: str, path: Path) -> None:
    """Of samples that are no images: label mixes, and the values that have shifted most."""
    samples, labels = new
    values = shifts(former, samples, labels).ravel()
    largest = np.argsort(-values, kind="stable")[:_VALUES]
    with picture(path, 11, 6) as figure:
        above, below = figure.subplots(2, 1)
        _label_mix(above, former.counts, np.bincount(labels, minlength=len(former.counts)))
        below.bar(np.arange(len(largest)), values[largest], color="C0")
        below.set_xticks(np.arange(len(largest)), [str(place) for place in largest])
        below.set(xlabel="value of a sample, the most shifted first", ylabel="shift in deviations")
        figure.suptitle(title)


def _label_mix(axes: Axes, before: np.ndarray, now: np.ndarray) -> None:
    positions = np.arange(len(before))
    axes.bar(positions - 0.2, shares(before), 0.4, label="before", color="0.6")
    axes.bar(positions + 0.2, shares(now), 0.4, label="new", color="C0")
    axes.set(xlabel="label", ylabel="share of samples")
    if len(positions) <= 40:
        axes.set_xticks(positions)
    axes.legend()


def _image(axes: Axes, title: str, image: np.ndarray, low: float, high: float, colours: str) -> None:
    channels = image.shape[-1]
    shown = image if channels == 3 else image.mean(axis=-1)
    axes.imshow(shown, cmap=colours, vmin=low, vmax=high)
    axes.set_title(title, fontsize="medium")
    axes.set_axis_off()
