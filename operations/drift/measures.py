"""Measures of a batch against the data before it, as functions of arrays.

Pixels and pictures are compared with the former images *of the same labels*: a batch of ones is darker than one of
eights, and that is a matter of its labels, which have a figure of their own. With p_k the batch's share of label k and
E_k, V_k mean and variance over the former images of label k, the former images of the same mix have mean
E = sum_k p_k E_k and variance V = sum_k p_k (V_k + E_k^2) - E^2.

| figure     | formula                                                                | by chance           |
| ---------- | ---------------------------------------------------------------------- | ------------------- |
| label_mix  | total variation distance 1/2 sum_k abs(p_k - q_k), q the former shares | see `mix_chance`    |
| brightness | (batch's mean - E) / sqrt(V) of each image's mean pixel                | 1 / sqrt(n)         |
| contrast   | the same of each image's standard deviation over its pixels            | 1 / sqrt(n)         |
| ink        | the same of each image's share of pixels that are not 0                | 1 / sqrt(n)         |
| mean_image | sqrt(sum_k p_k d_k^2), d_k the root mean square over the pixels (0 to  | sqrt(sum_k V_k / n) |
|            | 1) of the batch's mean image of label k less E_k                       | over its labels     |
| accuracy   | the champion's accuracy a on the test images less that on the batch    | sqrt(a (1 - a) / n) |

Samples that are no images have label_mix, accuracy and, in place of the others, one figure of their values:

| figure | formula                                                                  | by chance            |
| ------ | ------------------------------------------------------------------------ | -------------------- |
| shift  | max over the values j of abs(batch's mean of j - E_j) / (deviation of j) | sqrt(2 ln(2 J) / n), |
|        |                                                                          | J values             |

Labels that are numbers count by their bins (fedpipe/samples/kind.py), and have no accuracy.

"By chance" is what n samples of the former data would show in typical size. A figure stands out when its size is above
its threshold by more than twice that, so that a small batch does not stand out for being small.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Half a standard deviation is Cohen's "medium" effect (1988, "Statistical Power Analysis for the Behavioral Sciences");
# the others are what a person would want to look at.
THRESHOLDS = {
    "label_mix": 0.1,
    "brightness": 0.5,
    "contrast": 0.5,
    "ink": 0.5,
    "mean_image": 0.05,
    "accuracy": 0.05,
} | {"shift": 0.5}
STATISTICS = ("brightness", "contrast", "ink")

_CHUNK = 8192  # images at once in floating point


@dataclass(frozen=True)
class Profile:
    """The former data, by label.

    Attributes:
      counts: int [classes], samples of each label.
      images: float [classes, h, w, c], their mean image, pixels in [0, 1].
      image_variance: float [classes], variance around it, mean over the pixels.
      statistics: float [classes, 3], mean of `STATISTICS` over the images.
      statistics_variance: float [classes, 3].
      deviations: Of samples that are no images, the standard deviation of each value, float [...]; None of images.
    """

    counts: np.ndarray
    images: np.ndarray
    image_variance: np.ndarray
    statistics: np.ndarray
    statistics_variance: np.ndarray
    deviations: np.ndarray | None = None


@dataclass(frozen=True)
class Figure:
    """One measured figure: its value, what chance alone shows, and whether it stands out."""

    name: str
    value: float
    chance: float

    @property
    def stands_out(self) -> bool:
        """Whether it is above its threshold by more than chance explains."""
        size = abs(self.value) if self.name in STATISTICS else self.value  # doing better is no drift
        return size > THRESHOLDS[self.name] + 2 * self.chance


def statistics(images: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and share of non-zero pixels of each image: float64 [n, 3]; uint8 images."""
    rows = []
    for chunk in _chunks(images):
        pixels = chunk.reshape(len(chunk), -1)
        scaled = pixels.astype(np.float32) / 255
        columns = (scaled.mean(axis=1), scaled.std(axis=1), (pixels > 0).mean(axis=1))
        rows.append(np.stack(columns, axis=1, dtype=np.float64))
    return np.concatenate(rows)


def profile(images: np.ndarray, labels: np.ndarray, classes: int) -> Profile:
    """Looks at samples, such as uint8 images [n, h, w, c], label by label.

    A label without samples has the figures of all samples.
    """
    counts = np.bincount(labels, minlength=classes)
    if images.dtype != np.uint8 or images.ndim != 4:
        return _profile_of_values(images, labels, counts)
    overall = _moments(images)
    by_label = [_moments(images[labels == label]) if counts[label] else overall for label in range(classes)]
    return Profile(counts, *(np.array(part) for part in zip(*by_label, strict=True)))


def _profile_of_values(samples: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> Profile:
    """Of samples that are no images: means by label, and the deviation of each value."""
    overall = samples.mean(axis=0, dtype=np.float64)
    means = [
        samples[labels == label].mean(axis=0, dtype=np.float64) if counts[label] else overall
        for label in range(len(counts))
    ]
    nothing = np.zeros((len(counts), len(STATISTICS)))
    deviations = samples.std(axis=0, dtype=np.float64)
    return Profile(counts, np.array(means), np.zeros(len(counts)), nothing, nothing, deviations)


def shifts(former: Profile, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far the mean of each value is from that of former samples of the same labels, in deviations: float [...]."""
    distance = np.abs(samples.mean(axis=0, dtype=np.float64) - expected_image(former, labels))
    deviations = np.zeros(distance.shape) if former.deviations is None else former.deviations
    shifted: np.ndarray = np.divide(distance, deviations, out=np.zeros(distance.shape), where=deviations > 0)
    return shifted


def _moments(images: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Mean image, variance around it, mean and variance of the statistics; at least one image."""
    total = np.zeros(images.shape[1:])
    squares = 0.0
    for chunk in _chunks(images):
        scaled = chunk.astype(np.float32) / 255
        total += scaled.sum(axis=0, dtype=np.float64)
        squares += float(np.square(scaled).sum(dtype=np.float64))
    mean = total / len(images)
    variance = max(squares / images.size - float(np.square(mean).mean()), 0.0)
    own = statistics(images)
    return mean, variance, own.mean(axis=0), own.var(axis=0)


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK]


def expected_image(former: Profile, labels: np.ndarray) -> np.ndarray:
    """The mean of the former images if they had the mix of ``labels``: float [h, w, c]."""
    return np.tensordot(shares(np.bincount(labels, minlength=len(former.counts))), former.images, axes=1)


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts as shares of their sum."""
    return counts / counts.sum()


def mix_chance(mix: np.ndarray, samples: int) -> float:
    """The total variation distance that ``samples`` samples of ``mix`` have to it by chance, in the normal limit.

    1/2 sum_k sqrt(2 q_k (1 - q_k) / (pi n)): a share's mean absolute deviation is sqrt(2 / pi) of its standard one.
    """
    return float(0.5 * np.sqrt(2 * mix * (1 - mix) / (np.pi * samples)).sum())


def compare(former: Profile, images: np.ndarray, labels: np.ndarray) -> list[Figure]:
    """Label mix, pixel statistics and mean image of a batch against the former data; n is at least 1."""
    samples = len(labels)
    mix = shares(np.bincount(labels, minlength=len(former.counts)))
    former_mix = shares(former.counts)
    figures = [Figure("label_mix", float(0.5 * np.abs(mix - former_mix).sum()), mix_chance(former_mix, samples))]

    if former.deviations is not None:
        chance = float(np.sqrt(2 * np.log(2 * former.deviations.size) / samples))
        return [*figures, Figure("shift", float(shifts(former, images, labels).max()), chance)]

    mean = mix @ former.statistics
    variance = mix @ (former.statistics_variance + np.square(former.statistics)) - np.square(mean)
    spread = np.sqrt(np.maximum(variance, 1e-12))
    moved = (statistics(images).mean(axis=0) - mean) / spread
    figures += [Figure(n, float(s), samples**-0.5) for n, s in zip(STATISTICS, moved, strict=True)]

    # Label by label: images with each other's labels have the right mean image all together.
    present = np.flatnonzero(mix)
    squares = [
        mix[label] * np.square(_moments(images[labels == label])[0] - former.images[label]).mean() for label in present
    ]
    chance = float(np.sqrt(former.image_variance[present].sum() / samples))
    return [*figures, Figure("mean_image", float(np.sqrt(np.sum(squares))), chance)]


def accuracy_loss(on_test: float, on_batch: float, samples: int) -> Figure:
    """How much worse the champion does on a batch of ``samples`` than on the test images."""
    return Figure("accuracy", on_test - on_batch, float(np.sqrt(on_test * (1 - on_test) / samples)))


def share_among(images: np.ndarray, others: np.ndarray) -> float:
    """The share of ``images`` that are, pixel for pixel, among ``others``."""
    known = {image.tobytes() for image in others}
    return float(np.mean([image.tobytes() in known for image in images]))
