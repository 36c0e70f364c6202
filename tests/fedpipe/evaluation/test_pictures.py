"""Pictures of an evaluation: confusion for few classes and many, clients with and without samples of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from fedpipe.evaluation import pictures
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.pictures import draw_clients, draw_confusion


@pytest.mark.parametrize(("classes", "numbers"), [(10, 100), (20, 400), (21, 0), (256, 0)])
def test_confusion_of_any_number_of_classes(
    classes: int, numbers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    real = pictures.picture

    @contextmanager
    def seen(path: Path, width: float, height: float) -> Iterator[Figure]:
        with real(path, width, height) as figure:
            drawn.append(figure)
            yield figure

    path = tmp_path / "confusion.png"
    monkeypatch.setattr(pictures, "picture", seen)
    draw_confusion(np.eye(classes, dtype=np.int64) * 7, "a model", path)
    axes = drawn[0].axes[0]
    assert len(axes.texts) == numbers
    assert len(axes.get_xticks()) <= 20 and len(axes.get_yticks()) <= 20
    assert max(Image.open(path).size) < 1500


def has_colour(path: Path, colour: str) -> bool:
    wanted = [round(255 * value) for value in to_rgb(colour)]
    return bool((np.asarray(Image.open(path).convert("RGB")) == wanted).all(axis=2).any())


def test_clusters_are_a_chart_of_their_own(tmp_path: Path) -> None:
    clients = pd.DataFrame({"train_accuracy": [0.5, 0.9, 0.7], "test_personal_accuracy": [0.6, np.nan, 0.8]})
    summaries = {"train": spread(clients["train_accuracy"].to_numpy())}
    draw_clients(clients, summaries, "a title", tmp_path / "plain.png")
    clustered = clients.assign(cluster=[1, 0, 1])
    draw_clients(clustered, summaries, "a title", tmp_path / "clusters.png")
    wide, plain = (Image.open(tmp_path / f"{name}.png").size for name in ("clusters", "plain"))
    assert wide[0] > 1.3 * plain[0] and wide[1] == plain[1]


def test_test_samples_are_a_line_of_their_own(tmp_path: Path) -> None:
    clients = pd.DataFrame({"train_accuracy": [0.5, 0.9, np.nan, 0.7], "test_accuracy": [0.4, np.nan, np.nan, 0.8]})
    summaries = {samples: spread(clients[f"{samples}_accuracy"].to_numpy()) for samples in ("train", "test")}
    draw_clients(clients[["train_accuracy"]], {"train": summaries["train"]}, "a title", tmp_path / "plain.png")
    draw_clients(clients, summaries, "a title", tmp_path / "tested.png")
    assert not has_colour(tmp_path / "plain.png", "tab:orange") and has_colour(tmp_path / "tested.png", "tab:orange")
