"""Feature skew: images of one client look alike, as if it had a camera and a hand of its own.

A client has one value of each kind for all its images, training and test. They are applied in the order in which
a camera would meet them: the object is turned, then lit, stands before a background, and the sensor adds noise.
"""

from typing import NamedTuple

import numpy as np

from fedpipe.config import Features
from fedpipe.seeds import Purpose, generator

_DECIMALS = 4  # the table of skew holds exactly the values that were applied
_WHITE = 255


class Look(NamedTuple):
    """What sets a client's images apart; the defaults change nothing."""

    rotation: float = 0.0  # degrees, counter-clockwise
    contrast: float = 1.0  # factor of every pixel's distance from its image's mean
    background: int = 0  # gray level, 0 to 255
    noise: float = 0.0  # standard deviation, as a share of white (255)


def is_on(features: Features) -> bool:
    """Whether ``features`` ask for any change at all."""
    return any((features.rotation, features.contrast, features.background, features.noise))


def looks(features: Features, clients: int, seed: int) -> list[Look]:
    """The look of each client.

    With values ``drawn``, each is uniform in its range. With ``by_client`` it grows evenly with the client's number,
    from none (or the lowest) for the first to the most for the last: ``level * i / (clients - 1)`` for client i.

    Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study", section IV-B
    ("noise-based feature imbalance"), for noise that grows with the client's number. Its code (NIID-Bench) has these
    standard deviations, but draws new noise at each use of an image, and does not cut it off. Rotated clients as in
    Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning", section 6.
    """

    def positions(client: int) -> np.ndarray:
        if features.values == "by_client":
            return np.full(4, client / max(clients - 1, 1))
        return generator(seed, Purpose.FEATURES, client=client).random(4)

    def look(client: int) -> Look:
        rotation, contrast, background, noise = positions(client)
        return Look(
            rotation=round(features.rotation * (2 * rotation - 1), _DECIMALS),
            contrast=round(1 + features.contrast * (2 * contrast - 1), _DECIMALS),
            background=round(_WHITE * features.background * background),
            noise=round(features.noise * noise, _DECIMALS),
        )

    return [look(client) for client in range(clients)]


def apply(look: Look, images: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Images uint8 [n, height, width, channels] as a client with this ``look`` has them; ``rng`` is for noise, if any.

    Every step gives uint8 again, rounded to the nearest level and cut off at 0 and 255.
    """
    images = rotated(images, look.rotation)
    images = with_contrast(images, look.contrast)
    images = np.maximum(images, np.uint8(look.background))
    return noisy(images, look.noise, rng) if rng is not None else images


def rotated(images: np.ndarray, degrees: float) -> np.ndarray:
    """Turned counter-clockwise about the centre, bilinear; what comes from outside is 0."""
    if not degrees or not len(images):
        return images
    # Here only: it takes a fifth of a second, and most partitions turn nothing.
    from scipy import ndimage  # type: ignore[import-untyped]

    return ndimage.rotate(images, degrees, axes=(1, 2), reshape=False, order=1)


def with_contrast(images: np.ndarray, factor: float) -> np.ndarray:
    """Every pixel's distance from its image's mean (over all channels) times ``factor``. In whole numbers."""
    if factor == 1:
        return images
    scale = 10**_DECIMALS
    sums = images.sum(axis=(1, 2, 3), dtype=np.int64, keepdims=True)
    pixels = int(np.prod(images.shape[1:]))
    means = ((2 * sums + pixels) // (2 * pixels)).astype(np.int32)
    distances = images.astype(np.int32) - means
    changed = means + (round(factor * scale) * distances + scale // 2) // scale
    return np.clip(changed, 0, _WHITE).astype(np.uint8)


def noisy(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of its own on every pixel and channel; ``deviation`` is a share of white."""
    if not deviation:
        return images
    noise = rng.standard_normal(images.shape, np.float32)
    noise *= np.float32(_WHITE * deviation)
    noise += images
    return np.clip(np.rint(noise), 0, _WHITE).astype(np.uint8)
