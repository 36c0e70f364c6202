"""The picture for few and many clients and labels: it is drawn whole, and depends on the data alone."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedpipe.partitioning import partition_picture as module
from fedpipe.partitioning.partition_picture import Example, label_colours, plot
from fedpipe.partitioning.skew_measures import client_measures, summary


def counts_of(clients: int, classes: int) -> pd.DataFrame:
    rng = np.random.default_rng(clients)
    counts = rng.integers(0, 9, (clients, classes)) * (rng.random((clients, classes)) < 0.4)
    counts[0] = 1
    return pd.DataFrame(counts, index=pd.RangeIndex(clients, name="client"), columns=range(classes))


def colours_in(path: Path) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(int(value) for value in pixel) for pixel in np.unique(pixels, axis=0)}


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (300, 62), (100_000, 12)])
def test_every_label_is_seen(tmp_path: Path, clients: int, classes: int) -> None:
    counts = counts_of(clients, classes)
    figures = summary(counts, client_measures(counts))
    plot(counts, figures, "a title", tmp_path / "a.png")
    plot(counts, figures, "a title", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    wanted = [matplotlib.colors.to_rgb(colour) for colour in label_colours(classes)]
    assert {tuple(round(255 * value) for value in colour) for colour in wanted} <= colours_in(tmp_path / "a.png")


@pytest.mark.parametrize("classes", [2, 10, 11, 20, 21, 62, 256])
def test_each_label_has_a_colour_of_its_own(classes: int) -> None:
    colours = {matplotlib.colors.to_hex(colour) for colour in label_colours(classes)}
    assert len(colours) == len(label_colours(classes)) == classes


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_make_it_taller(tmp_path: Path, channels: int) -> None:
    counts = counts_of(10, 10)
    figures = summary(counts, client_measures(counts))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), np.uint8)
    shown = [Example("client 0", images, np.arange(3)), Example("client 1", images[:1], np.arange(1))]
    shown.append(Example("client 2, of no samples", images[:0], np.arange(0)))
    plot(counts, figures, "a title", tmp_path / "plain.png")
    plot(counts, figures, "a title", tmp_path / "examples.png", shown)
    plain, examples = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "examples"))
    assert examples.height > plain.height and examples.width == plain.width


def test_sizes_of_many_clients_are_seen_rising(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the mixes, sorted by label, they would be noise."""
    counts, shown = counts_of(100, 10), []
    monkeypatch.setattr(module, "_sizes", lambda _, sizes, __: shown.append(sizes))
    plot(counts, summary(counts, client_measures(counts)), "a title", tmp_path / "a.png")
    np.testing.assert_array_equal(shown[0], np.sort(counts.sum(axis=1)))
