"""Reading shards: where each client's samples lie in the file, in Python and in a graph of TensorFlow."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf

Labelled = tuple[np.ndarray, np.ndarray]  # images uint8 [n, height, width, channels], labels uint8 [n]

RESTORE = "restore it with 'dvc checkout --force' or run the partition stage again"
_SHARDS = "shards.safetensors"


def shards_path(folder: Path) -> Path:
    """The file with all shards below ``folder``."""
    return folder / _SHARDS


@dataclass(frozen=True, eq=False)
class Shards:
    """The file of shards, opened: where each client's samples lie in it, and how to read them."""

    path: Path
    size: int  # bytes of the file
    image_shape: tuple[int, ...]  # height, width, channels
    offsets: np.ndarray  # int64 [clients + 1], in samples

    @staticmethod
    def open(folder: Path) -> "Shards":
        """Reads where ``folder``'s shards lie.

        Raises:
          PipelineError: The file is missing, cut short or no file of shards.
        """
        path = shards_path(folder)
        try:
            path.open("rb").close()  # safetensors would call every file that it cannot open missing
            with safe_open(path, "numpy") as file:
                offsets, (samples, *image_shape) = file.get_tensor("offsets"), file.get_slice("images").get_shape()
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing: {RESTORE}") from None
        except OSError as error:
            raise PipelineError(
                f"{path} is there but cannot be read ({error.strerror}): put its permissions or its disk right"
            ) from None
        except SafetensorError as error:
            raise PipelineError(f"{path} is cut short or changed ({error}): {RESTORE}") from None
        if offsets[0] != 0 or offsets[-1] != samples or (np.diff(offsets) < 0).any():
            raise PipelineError(f"{path} is changed: its offsets do not divide its {samples} samples; {RESTORE}")
        return Shards(path, path.stat().st_size, tuple(image_shape), offsets)

    @staticmethod
    def elsewhere(folder: Path, image_shape: tuple[int, ...], samples: np.ndarray) -> "Shards":
        """Shards whose file is not here: graphs over them can be built, and do not run.

        Args:
          folder: Where the file would be.
          image_shape: height, width, channels.
          samples: int64 [clients], how many each client has.
        """
        offsets = np.concatenate([[0], np.cumsum(samples)]).astype(np.int64)
        size = offsets.nbytes + int(offsets[-1]) * (math.prod(image_shape) + 1)
        return Shards(shards_path(folder), size, image_shape, offsets)

    @property
    def samples(self) -> int:
        """How many samples all clients have together."""
        return int(self.offsets[-1])

    @property
    def pixels(self) -> int:
        """Bytes of an image."""
        return math.prod(self.image_shape)

    @property
    def labels_start(self) -> int:
        """The byte at which the labels start: the last tensor of the file."""
        return self.size - self.samples

    @property
    def images_start(self) -> int:
        """The byte at which the images start, before the labels."""
        return self.labels_start - self.samples * self.pixels

    @property
    def offsets_start(self) -> int:
        """The byte at which the offsets start, before the images."""
        return self.images_start - self.offsets.nbytes

    def read(self, first: int, end: int) -> Labelled:
        """Reads the samples ``first`` to ``end`` - 1 of the file, which is sorted by client."""
        count = end - first
        images = np.fromfile(self.path, np.uint8, count * self.pixels, offset=self.images_start + first * self.pixels)
        return images.reshape(count, *self.image_shape), self.read_labels(first, end)

    def read_labels(self, first: int, end: int) -> np.ndarray:
        """Reads the labels of the samples ``first`` to ``end`` - 1: uint8 [end - first]."""
        return np.fromfile(self.path, np.uint8, end - first, offset=self.labels_start + first)


def read_shard(folder: Path, client: int) -> Labelled:
    """Reads ``client``'s shard: images uint8 [n, height, width, channels] and labels uint8 [n].

    To read many, open `Shards` once.

    Raises:
      PipelineError: The file is missing or is no file of shards.
    """
    shards = Shards.open(folder)
    return shards.read(*shards.offsets[client : client + 2])


def read_shard_in_graph(shards: Shards, client: Any) -> tuple[Any, Any]:
    """`read_shard` as TensorFlow operations, for a worker that knows no Python.

    The file is mapped into memory, so that only the pages with the client's own bytes are read. (TensorFlow's other ops
    read a whole file, or read through it up to the place asked for.)

    Args:
      shards: The shards, under the path that the worker sees.
      client: int32 scalar.

    Returns:
      images uint8 [n, height, width, channels] and labels uint8 [n].
    """
    path = str(shards.path.resolve())
    file = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[shards.size], memory_region_name=path)

    def part(start: int, item_bytes: int, first: Any, end: Any) -> Any:
        return file[start + first * item_bytes : start + end * item_bytes]

    client = tf.cast(client, tf.int64)
    pair = tf.bitcast(tf.reshape(part(shards.offsets_start, 8, client, client + 2), [2, 8]), tf.int64)
    images = part(shards.images_start, shards.pixels, pair[0], pair[1])
    return tf.reshape(images, [-1, *shards.image_shape]), part(shards.labels_start, 1, pair[0], pair[1])
