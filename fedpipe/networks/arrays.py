"""What arrays must be to be images, labels, and the samples of clients; anything else is refused, not converted.

TensorFlow would convert: images in [0, 1] to black ones, for instance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Kind

ImageShape = tuple[int, ...]


def require_images(name: str, images: Any, shape: ImageShape | None = None) -> None:
    """Checks that ``images`` are uint8 [n, height, width, channels]; ``name`` is the caller's name for them.

    Args:
      name: For the message.
      images: Anything.
      shape: The height, width and channels that they must have; None for any.

    Raises:
      PipelineError: They are something else; the message says how to convert what people have most often.
    """
    wanted = "[n, height, width, channels]" if shape is None else f"[n, {', '.join(map(str, shape))}]"
    if not isinstance(images, np.ndarray):
        raise PipelineError(f"{name} must be a NumPy array, uint8 {wanted}, not {type(images).__name__}")
    if images.dtype != np.uint8:
        remedy = ""
        if np.issubdtype(images.dtype, np.floating):
            remedy = ": pixels from 0 to 255 as integers, such as (x * 255).astype(np.uint8) of values in [0, 1]"
        raise PipelineError(f"{name} must be uint8 {wanted}, not {images.dtype} {list(images.shape)}{remedy}")
    if images.ndim != 4:
        remedy = f": add the channel with {name}[..., np.newaxis]" if images.ndim == 3 else ""
        raise PipelineError(f"{name} must be uint8 {wanted}, not {images.dtype} {list(images.shape)}{remedy}")
    if shape is not None and images.shape[1:] != tuple(shape):
        raise PipelineError(f"{name} must be uint8 {wanted}, as the training images are, not {list(images.shape)}")


def require_kind(samples: Any, kind: Kind) -> None:
    """Checks that ``samples`` are as a model takes them.

    Raises:
      PipelineError: They are something else.
    """
    if kind.is_image:
        require_images("images", samples, kind.shape)
        return
    wanted = f"{kind.format.samples} [n, {', '.join(map(str, kind.shape))}]"
    if not isinstance(samples, np.ndarray):
        raise PipelineError(f"samples must be a NumPy array, {wanted}, not {type(samples).__name__}")
    if samples.dtype != kind.format.samples or samples.shape[1:] != kind.shape:
        raise PipelineError(f"samples must be {wanted}, not {samples.dtype} {list(samples.shape)}")


def require_labels(name: str, labels: Any, count: int, classes: int | None = None) -> None:
    """Checks that ``labels`` are uint8 [count], and below ``classes`` if that is known.

    Raises:
      PipelineError: They are something else.
    """
    if not isinstance(labels, np.ndarray):
        raise PipelineError(f"{name} must be a NumPy array, uint8 [{count}], not {type(labels).__name__}")
    if labels.dtype != np.uint8 or labels.shape != (count,):
        is_integer = np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.uint8
        remedy = f": convert them with {name}.astype(np.uint8)" if is_integer and labels.shape == (count,) else ""
        raise PipelineError(
            f"{name} must be uint8 [{count}], one per image, not {labels.dtype} {list(labels.shape)}{remedy}"
        )
    if classes is not None and count and labels.max() >= classes:
        raise PipelineError(
            f"{name} go up to {labels.max()}, and there are {classes} classes: give classes={labels.max() + 1} if the "
            "model is to have more than the training labels show"
        )


def require_samples(name: str, pair: Any, shape: ImageShape, classes: int) -> None:
    """Checks a pair of images and labels on which a model is measured; ``name`` is the argument's.

    Raises:
      PipelineError: It is no pair, has no image, or does not fit the training images and classes.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise PipelineError(f"{name} must be a pair (images, labels)")
    images, labels = pair
    require_images(f"{name} images", images, shape)
    if not len(images):
        raise PipelineError(f"{name} has no image: leave it out if there is nothing to measure on")
    require_labels(f"{name} labels", labels, len(images), classes)


def require_indices(clients: Sequence[Any], samples: int) -> list[np.ndarray]:
    """The indices of each client's samples as int64 arrays.

    Args:
      clients: For each client a one-dimensional array or list of integers.
      samples: How many samples there are.

    Raises:
      PipelineError: There is no client, or indices are masks, fractions, nested, or beyond the samples.
    """
    if not len(clients):
        raise PipelineError("clients is empty: give the indices of the samples of one client or more")
    return [_indices(f"clients[{client}]", indices, samples) for client, indices in enumerate(clients)]


def _indices(name: str, indices: Any, samples: int) -> np.ndarray:
    array = np.asarray(indices)
    if not array.size and array.ndim == 1:
        return np.zeros(0, np.int64)
    if array.dtype == np.bool_:
        raise PipelineError(f"{name} is a mask, and must be indices of samples: np.flatnonzero(mask) makes them")
    if not np.issubdtype(array.dtype, np.integer) or array.ndim != 1:
        raise PipelineError(f"{name} must be indices of samples, integers [n], not {array.dtype} {list(array.shape)}")
    if array.min() < 0 or array.max() >= samples:
        raise PipelineError(
            f"{name} has indices from {array.min()} to {array.max()}; there are samples 0 to {samples - 1}"
        )
    return array.astype(np.int64)
