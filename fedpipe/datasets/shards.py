"""The shards: the one place that writes the clients' data and reads it.

    data/clients/
      manifest.json         what the shards hold, for everything downstream
      shards.csv            client, samples, SHA-256 of its shard (the bytes of its images, then of its labels)
      shards.safetensors    images uint8 [samples, height, width, channels] and labels uint8 [samples], sorted by
                            client; offsets int64 [clients + 1]: client k has images[offsets[k] : offsets[k + 1]]

One file for all clients, because DVC, disks and remotes pay for every file (docs/how-it-works.md has the figures); a
plain safetensors file, so any tool opens it. A client's shard is a range of its bytes, and that range is all that
reading the shard reads.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    import tensorflow as tf

Labelled = tuple[np.ndarray, np.ndarray]  # images uint8 [n, height, width, channels], labels uint8 [n]
Transform = Callable[[int, np.ndarray, np.ndarray], Labelled]

_MANIFEST, _INDEX, _SHARDS = "manifest.json", "shards.csv", "shards.safetensors"
_ALIGNMENT = 8  # bytes, of the first tensor of a safetensors file
_WRITE_BUFFER = 2**20
_RESTORE = "restore data/clients with 'dvc checkout --force' or run the partition stage again"


class Manifest(BaseModel):
    """What data/clients/ holds. Nothing downstream assumes an image size or a number of classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    image_shape: tuple[int, int, int]  # height, width, channels
    classes: int
    clients: int
    samples: int  # over all shards
    digest: str  # SHA-256 over the shards' SHA-256, in the order of the clients
    # In the file only where they say something, so that tests from elsewhere leave the clients' bytes as they are.
    held_out: Literal["fraction"] | None = None  # of clients: what their tests took away from their samples
    clients_digest: str | None = None  # of clients' tests: the digest of the clients that they were made for

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """Reads ``folder``'s manifest.

        Raises:
          PipelineError: It is missing or is not a manifest.
        """
        path = folder / _MANIFEST
        try:
            return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing: run the partition stage first (dvc repro)") from None
        except (ValidationError, UnicodeDecodeError):
            raise PipelineError(f"{path} is not a manifest of shards: run the partition stage again") from None


def read_client_tests(folder: Path, clients: Manifest) -> Manifest:
    """Reads the manifest of the clients' tests in ``folder``; there may be tests of no client.

    Raises:
      PipelineError: It is missing, is not a manifest, or the tests were made for other clients than ``clients``.
    """
    tests = Manifest.read(folder)
    if tests.clients and tests.clients_digest != clients.digest:
        raise PipelineError(
            f"{folder} holds tests for the clients of another partition than the one that is there (it may have been "
            "stopped half-way): run the partition stage again (dvc repro --force partition)"
        )
    return tests


def shards_path(folder: Path) -> Path:
    """The file with all shards below ``folder``."""
    return folder / _SHARDS


def write_shards(
    folder: Path,
    dataset: str,
    images: np.ndarray,
    labels: np.ndarray,
    clients: list[np.ndarray],
    classes: int,
    transform: Transform | None = None,
    *,
    held_out: Literal["fraction"] | None = None,
    clients_digest: str | None = None,
) -> Manifest:
    """Writes the shards, their index and the manifest into ``folder``, a client at a time.

    Args:
      folder: An empty folder.
      dataset: The data set's name.
      images: uint8 [samples, height, width, channels].
      labels: uint8 [samples].
      clients: For each client the indices of its samples, in the order in which it trains on them; may be none.
      classes: The number of classes.
      transform: ``(client, images, labels) -> (images, labels)`` of the same shapes and types, what a client sees in
        place of its samples.
      held_out: For the manifest.
      clients_digest: For the manifest.
    """
    offsets = np.cumsum([0, *map(len, clients)], dtype=np.int64)
    samples, image_shape = int(offsets[-1]), images.shape[1:]
    written, sums = np.empty(samples, np.uint8), []
    with shards_path(folder).open("wb", _WRITE_BUFFER) as file:
        file.write(_header(samples, image_shape, len(clients)))
        file.write(offsets.astype("<i8").tobytes())
        for client, indices in enumerate(clients):
            shard = images[indices], labels[indices]
            if transform is not None:
                shard = transform(client, *shard)
            mine = [np.ascontiguousarray(part).data for part in shard]
            file.write(mine[0])
            written[offsets[client] : offsets[client + 1]] = shard[1]
            sums.append(_sha256(*mine))
        file.write(written.data)
    index = pd.DataFrame({"client": np.arange(len(clients)), "samples": np.diff(offsets), "sha256": sums})
    index.to_csv(folder / _INDEX, index=False)
    manifest = Manifest(
        dataset=dataset,
        image_shape=image_shape,
        classes=classes,
        clients=len(clients),
        samples=samples,
        digest=_digest(sums),
        held_out=held_out,
        clients_digest=clients_digest,
    )
    (folder / _MANIFEST).write_text(manifest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    return manifest


def _header(samples: int, image_shape: tuple[int, ...], clients: int) -> bytes:
    """The head of the safetensors file: length of the JSON (uint64), then the JSON, padded with spaces.

    Written here and not by the library, which would want all images in memory a second time.
    """
    tensors, end = {}, 0
    for name, kind, itemsize, shape in (
        ("offsets", "I64", 8, [clients + 1]),
        ("images", "U8", 1, [samples, *image_shape]),
        ("labels", "U8", 1, [samples]),
    ):
        start, end = end, end + itemsize * math.prod(shape)
        tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _sha256(images: bytes | memoryview, labels: bytes | memoryview) -> str:
    found = hashlib.sha256(images)
    found.update(labels)
    return found.hexdigest()


def _digest(sums: Iterable[str]) -> str:
    return hashlib.sha256("".join(sums).encode()).hexdigest()


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
            raise PipelineError(f"{path} is missing: {_RESTORE}") from None
        except OSError as error:
            raise PipelineError(
                f"{path} is there but cannot be read ({error.strerror}): put its permissions or its disk right"
            ) from None
        except SafetensorError as error:
            raise PipelineError(f"{path} is cut short or changed ({error}): {_RESTORE}") from None
        if offsets[0] != 0 or offsets[-1] != samples or (np.diff(offsets) < 0).any():
            raise PipelineError(f"{path} is changed: its offsets do not divide its {samples} samples; {_RESTORE}")
        return Shards(path, path.stat().st_size, tuple(image_shape), offsets)

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
        labels = np.fromfile(self.path, np.uint8, count, offset=self.labels_start + first)
        return images.reshape(count, *self.image_shape), labels


def read_shard(folder: Path, client: int) -> Labelled:
    """Reads ``client``'s shard: images uint8 [n, height, width, channels] and labels uint8 [n].

    To read many, open `Shards` once.

    Raises:
      PipelineError: The file is missing or is no file of shards.
    """
    shards = Shards.open(folder)
    return shards.read(*shards.offsets[client : client + 2])


def read_shard_in_graph(shards: Shards, client: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
    """`read_shard` as TensorFlow operations, for a worker that knows no Python.

    The file is mapped into memory, so that only the pages with the client's own bytes are read. (TensorFlow's other ops
    read a whole file, or read through it up to the place asked for.)

    Args:
      shards: The shards, under the path that the worker sees.
      client: int32 scalar.

    Returns:
      images uint8 [n, height, width, channels] and labels uint8 [n].
    """
    import tensorflow as tf  # here only: partition writes shards without waiting for TensorFlow

    path = str(shards.path.resolve())
    file = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[shards.size], memory_region_name=path)

    def part(start: int, item_bytes: int, first: "tf.Tensor", end: "tf.Tensor") -> "tf.Tensor":
        return file[start + first * item_bytes : start + end * item_bytes]

    client = tf.cast(client, tf.int64)
    pair = tf.bitcast(tf.reshape(part(shards.offsets_start, 8, client, client + 2), [2, 8]), tf.int64)
    images = part(shards.images_start, shards.pixels, pair[0], pair[1])
    return tf.reshape(images, [-1, *shards.image_shape]), part(shards.labels_start, 1, pair[0], pair[1])


def read_index(folder: Path) -> pd.DataFrame:
    """The index of the shards: columns client, samples, sha256; one row per client, in order.

    Raises:
      PipelineError: It is missing or has other columns.
    """
    path = folder / _INDEX
    try:
        index = pd.read_csv(path, dtype={"sha256": str}, keep_default_na=False)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run the partition stage first (dvc repro)") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise PipelineError(f"{path} is not a table of shards: run the partition stage again") from None
    if list(index.columns) != ["client", "samples", "sha256"]:
        raise PipelineError(f"{path} must have the columns client, samples, sha256")
    return index


def verify_shards(folder: Path, manifest: Manifest) -> None:
    """Compares the index with the manifest, and every shard with the index, reading one after the other.

    Raises:
      PipelineError: The index is another partition's, the file is missing or cut short, or a client's shard is changed;
        the message names it.
    """
    index = read_index(folder)
    together = index["client"].tolist() == list(range(manifest.clients)) and _digest(index["sha256"]) == manifest.digest
    if not together:
        raise PipelineError(f"{folder / _INDEX} and {_MANIFEST} do not belong together: {_RESTORE}")
    shards = Shards.open(folder)
    if np.diff(shards.offsets).tolist() != index["samples"].tolist() or shards.image_shape != manifest.image_shape:
        raise PipelineError(f"{shards.path} and {_INDEX} do not belong together: {_RESTORE}")
    with shards.path.open("rb") as images, shards.path.open("rb") as labels:
        images.seek(shards.images_start)
        labels.seek(shards.labels_start)
        for client, (samples, expected) in enumerate(zip(index["samples"], index["sha256"], strict=True)):
            found = _sha256(images.read(samples * shards.pixels), labels.read(samples))
            if found != expected:
                raise PipelineError(
                    f"{shards.path}: the shard of client {client} is changed (SHA-256 {found[:12]}…, "
                    f"{_INDEX} says {expected[:12]}…): {_RESTORE}"
                )
