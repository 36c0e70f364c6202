"""Figures of drift: nothing for more of the same, something for each way of being different, on real digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.drift.champion import Champion
from operations.drift.comparison import compare_batch, markdown
from operations.drift.measures import Profile, accuracy_loss, compare, mix_chance, profile, share_among, statistics
from operations.drift.picture import plot

Samples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def halves(training_set: Samples) -> tuple[Samples, Samples]:
    """6,000 digits before, and 3,000 others."""
    images, labels = training_set
    return (images[:6000], labels[:6000]), (images[6000:9000], labels[6000:9000])


@pytest.fixture(scope="module")
def former(halves: tuple[Samples, Samples]) -> Profile:
    return profile(*halves[0], 10)


def outstanding(former: Profile, images: np.ndarray, labels: np.ndarray) -> set[str]:
    return {figure.name for figure in compare(former, images, labels) if figure.stands_out}


@pytest.mark.parametrize("samples", [1, 5, 20, 100, 3000])
def test_more_of_the_same_does_not_stand_out(former: Profile, halves: tuple[Samples, Samples], samples: int) -> None:
    images, labels = halves[1]
    seen = [
        outstanding(former, images[at : at + samples], labels[at : at + samples])
        for at in range(0, 3000, max(samples, 100))
    ]
    assert np.mean([bool(names) for names in seen]) <= 0.1


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda x, y: (x[y < 3], y[y < 3]), {"label_mix"}),
        (lambda x, y: (x // 2, y), {"brightness", "contrast"}),
        (lambda x, y: (255 - x, y), {"brightness", "ink", "mean_image"}),
        (lambda x, y: (np.maximum(x, 3), y), {"ink"}),
        (lambda x, y: (np.roll(x, 6, axis=2), y), {"mean_image"}),
        (lambda x, y: (x, (y + 5) % 10), {"mean_image"}),
    ],
    ids=["three labels", "half as bright", "inverted", "no zeros", "moved", "wrong labels"],
)
def test_each_way_of_being_different_stands_out(
    former: Profile, halves: tuple[Samples, Samples], change: Callable[..., Samples], names: set[str]
) -> None:
    assert outstanding(former, *change(*halves[1])) >= names


def test_another_label_mix_alone_is_no_matter_of_pixels(former: Profile, halves: tuple[Samples, Samples]) -> None:
    images, labels = halves[1]
    assert outstanding(former, images[labels == 1], labels[labels == 1]) == {"label_mix"}


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_label_mix_is_the_total_variation_distance(before: list[int], now: list[int]) -> None:
    if not (sum(before) and sum(now)):
        return
    labels = [np.repeat(np.arange(3, dtype=np.uint8), counts) for counts in (before, now)]
    black = [np.zeros((len(part), 2, 2, 1), np.uint8) for part in labels]
    figure = compare(profile(black[0], labels[0], 3), black[1], labels[1])[0]
    p, q = np.array(before) / sum(before), np.array(now) / sum(now)
    assert figure.value == pytest.approx(1 - np.minimum(p, q).sum()) and 0 <= figure.value <= 1


def test_chance_is_what_samples_show() -> None:
    rng, mix = np.random.default_rng(1), np.array([0.5, 0.2, 0.2, 0.1])
    drawn = rng.multinomial(200, mix, size=4000) / 200
    assert 0.5 * np.abs(drawn - mix).sum(axis=1).mean() == pytest.approx(mix_chance(mix, 200), rel=0.03)


def test_statistics_of_an_image() -> None:
    image = np.array([[0, 0], [255, 255]], np.uint8).reshape(1, 2, 2, 1)
    assert statistics(image) == pytest.approx(np.array([[0.5, 0.5, 0.5]]))


def test_the_champion_doing_worse_stands_out_and_better_does_not() -> None:
    assert accuracy_loss(0.9, 0.8, 1000).stands_out and not accuracy_loss(0.9, 0.8, 20).stands_out
    assert not accuracy_loss(0.8, 0.95, 1000).stands_out


class _Rated(Champion):
    """Right on half of a small batch, and on most of a larger one."""

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        return 0.5 if len(labels) < 100 else 0.9


def test_the_report_says_it_in_words(halves: tuple[Samples, Samples], former: Profile, tmp_path: Path) -> None:
    (images, labels), (others, _) = halves
    champion = _Rated("fedpipe-mnist version 3", lambda x: np.zeros(len(x)), 0.9, np.full(10, 0.9))
    known = (images, others[:10])
    batches = {"fine": (others[100:400], halves[1][1][100:400]), "odd": (255 - images[:50], labels[:50])}
    batches["seen"] = (np.concatenate([images[:90], others[:10]]), labels[:100])
    compared = [compare_batch(name, batch, former, known, champion) for name, batch in batches.items()]
    text = markdown([*compared, compared[0]], former, "mnist", champion)
    assert "- **fine**: nothing stands out" in text and "test samples | |  | | |" not in text
    odd = next(line for line in text.splitlines() if line.startswith("- **odd**"))
    assert "its images are brighter (+" in odd and "more of its pixels are not 0" in odd
    assert "the champion does worse on it, by 0.40" in odd
    assert "10.0% of its samples are test samples" in text and "90.0% of its samples are in the training data" in text
    assert "**0.5000**" in text
    plot(former, batches["odd"], "odd", tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")


def test_a_new_label_and_colour_images() -> None:
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 255, (60, 5, 6, 3), dtype=np.uint8), np.repeat(np.arange(3, dtype=np.uint8), 20)
    before = profile(images[:40], labels[:40], 3)
    compared = compare_batch("new", (images[40:], labels[40:]), before, (images[:40], images[:1]), None)
    assert "it has labels that were not there before: 2" in compared.findings(before.counts)
    assert compared.accuracy is None and share_among(images[:10], images[5:]) == 0.5
