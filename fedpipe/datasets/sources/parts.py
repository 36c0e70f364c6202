"""The four arrays of a user data set, and their requirements before anything is written."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpipe.datasets.sources.label_form import check_label_form
from fedpipe.errors import PipelineError

LARGEST = 1 << 33  # bytes, uncompressed: the stages hold a split in memory
_CHANNELS = (1, 3)  # gray, colour


@dataclass(frozen=True)
class Part:
    """One array, and its name in messages."""

    called: str
    array: npt.NDArray[Any]


def validate(parts: list[Part]) -> list[npt.NDArray[np.uint8]]:
    """The arrays as bytes, if they are the four parts of a data set.

    Args:
      parts: Training images and labels, test images and labels. Images are [n, height, width] or
        [n, height, width, channels], labels [n]; integers of any type whose values are 0 to 255.

    Raises:
      PipelineError: They are not; the message names the part.
    """
    train_images, train_labels, test_images, test_labels = parts
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        _check_images(images)
        check_label_form(labels.called, labels.array.dtype, labels.array.shape, labels.array)
        if labels.array.ndim != 1:
            raise PipelineError(f"{labels.called} has shape {labels.array.shape}; labels must be one number per sample")
        if len(images.array) != len(labels.array):
            raise PipelineError(
                f"{labels.called} has {len(labels.array)} labels, but {images.called} {len(images.array)} images"
            )
    if train_images.array.shape[1:] != test_images.array.shape[1:]:
        raise PipelineError(
            f"{test_images.called} has images of {test_images.array.shape[1:]}, but {train_images.called} of "
            f"{train_images.array.shape[1:]}; they must be alike"
        )
    return [_as_bytes(part) for part in parts]


def _check_images(images: Part) -> None:
    shape = images.array.shape
    if len(shape) not in (3, 4):
        raise PipelineError(
            f"{images.called} has shape {shape}; images must be samples x height x width, or that x channels"
        )
    if 0 in shape:
        raise PipelineError(f"{images.called} is empty: its shape is {shape}")
    if len(shape) == 4 and shape[3] not in _CHANNELS:
        raise PipelineError(
            f"{images.called} has shape {shape}, which are {shape[3]} channels; allowed: 1 (gray) or 3 (colour), last"
        )


def _as_bytes(part: Part) -> npt.NDArray[np.uint8]:
    """The same numbers as uint8."""
    array = part.array
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.integer):
        raise PipelineError(
            f"{part.called} has numbers of type {array.dtype}; allowed: uint8, or integers from 0 to 255 "
            "(multiply images in [0, 1] by 255, round, and store them as uint8)"
        )
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest > 255:
        raise PipelineError(f"{part.called} has values from {lowest} to {highest}; allowed: 0 to 255")
    return array.astype(np.uint8)
