"""Reading shards: where each client's samples lie in the file, in Python and in a graph of TensorFlow."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.samples.kind import Kind

Labelled = tuple[np.ndarray, np.ndarray]  # such as images uint8 [n, height, width, channels], labels uint8 [n]

RESTORE = "restore it with 'dvc checkout --force' or run the partition stage again"
SAFETENSORS_TYPES = {"uint8": "U8", "int32": "I32", "float32": "F32"}  # by NumPy's names
_SHARDS = "shards.safetensors"


@dataclass(frozen=True)
class Items:
    """The shape and type of one sample, or of one label."""

    shape: tuple[int, ...]
    type: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """How many bytes one has."""
        return math.prod(self.shape) * self.type.itemsize

    def array(self, path: Path, start: int, count: int) -> np.ndarray:
        """``count`` of them from the byte ``start`` on."""
        flat = np.fromfile(path, self.type, count * math.prod(self.shape), offset=start)
        return flat.reshape(count, *self.shape)

    def tensor(self, content: Any) -> Any:
        """A tensor of as many of them as the bytes uint8 [bytes] hold."""
        if self.type != np.uint8:
            content = tf.bitcast(tf.reshape(content, [-1, self.type.itemsize]), self.type.name)
        return tf.reshape(content, [-1, *self.shape])


_NUMPY_TYPES = {stored: name for name, stored in SAFETENSORS_TYPES.items()}


def shards_path(folder: Path) -> Path:
    """The file with all shards below ``folder``."""
    return folder / _SHARDS


@dataclass(frozen=True, eq=False)
class Shards:
    """The file of shards, opened: where each client's samples lie in it, and how to read them."""

    path: Path
    size: int  # bytes of the file
    image: Items
    label: Items
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
                offsets = file.get_tensor("offsets")
                (samples, image), (_, label) = (_items(file.get_slice(name)) for name in ("images", "labels"))
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing: {RESTORE}") from None
        except OSError as error:
            raise PipelineError(
                f"{path} is there but cannot be read ({error.strerror}): put its permissions or its disk right"
            ) from None
        except (SafetensorError, KeyError) as error:
            raise PipelineError(f"{path} is cut short or changed ({error}): {RESTORE}") from None
        if offsets[0] != 0 or offsets[-1] != samples or (np.diff(offsets) < 0).any():
            raise PipelineError(f"{path} is changed: its offsets do not divide its {samples} samples; {RESTORE}")
        return Shards(path, path.stat().st_size, image, label, offsets)

    @staticmethod
    def elsewhere(folder: Path, kind: Kind, samples: np.ndarray) -> "Shards":
        """Shards whose file is not here: graphs over them can be built, and do not run.

        Args:
          folder: Where the file would be.
          kind: The kind of samples and labels.
          samples: int64 [clients], how many each client has.
        """
        offsets = np.concatenate([[0], np.cumsum(samples)]).astype(np.int64)
        image, label = Items(kind.shape, np.dtype(kind.format.samples)), Items(kind.label_shape, kind.format.label_type)
        size = offsets.nbytes + int(offsets[-1]) * (image.bytes + label.bytes)
        return Shards(shards_path(folder), size, image, label, offsets)

    @property
    def samples(self) -> int:
        """How many samples all clients have together."""
        return int(self.offsets[-1])

    @property
    def labels_start(self) -> int:
        """The byte at which the labels start: the last tensor of the file."""
        return self.size - self.samples * self.label.bytes

    @property
    def images_start(self) -> int:
        """The byte at which the images start, before the labels."""
        return self.labels_start - self.samples * self.image.bytes

    @property
    def offsets_start(self) -> int:
        """The byte at which the offsets start, before the images."""
        return self.images_start - self.offsets.nbytes

    def read(self, first: int, end: int) -> Labelled:
        """Reads the samples ``first`` to ``end`` - 1 of the file, which is sorted by client."""
        images = self.image.array(self.path, self.images_start + first * self.image.bytes, end - first)
        return images, self.read_labels(first, end)

    def read_labels(self, first: int, end: int) -> np.ndarray:
        """Reads the labels of the samples ``first`` to ``end`` - 1, such as uint8 [end - first]."""
        return self.label.array(self.path, self.labels_start + first * self.label.bytes, end - first)


def _items(tensor: Any) -> tuple[int, Items]:
    """How many items a tensor of a file has, and what one is."""
    count, *shape = tensor.get_shape()
    return count, Items(tuple(shape), np.dtype(_NUMPY_TYPES[tensor.get_dtype()]))


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
      client: int32 scalar; None for the samples of all clients.

    Returns:
      Samples and labels, such as images uint8 [n, height, width, channels] and labels uint8 [n].
    """
    path = str(shards.path.resolve())
    file = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[shards.size], memory_region_name=path)

    def part(start: int, item_bytes: int, first: Any, end: Any) -> Any:
        return file[start + first * item_bytes : start + end * item_bytes]

    if client is None:
        images = part(shards.images_start, shards.image.bytes, 0, shards.samples)
        labels = part(shards.labels_start, shards.label.bytes, 0, shards.samples)
        return shards.image.tensor(images), shards.label.tensor(labels)
    client = tf.cast(client, tf.int64)
    pair = tf.bitcast(tf.reshape(part(shards.offsets_start, 8, client, client + 2), [2, 8]), tf.int64)
    images = part(shards.images_start, shards.image.bytes, pair[0], pair[1])
    labels = part(shards.labels_start, shards.label.bytes, pair[0], pair[1])
    return shards.image.tensor(images), shards.label.tensor(labels)
