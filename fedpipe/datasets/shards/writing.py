"""Writing shards: the samples of all clients in one file, a client at a time."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fedpipe.datasets.shards.index import digest_of, sha256, sites_of, write_index
from fedpipe.datasets.shards.manifest import Manifest
from fedpipe.datasets.shards.reading import SAFETENSORS_TYPES, Labelled, shards_path
from fedpipe.samples.kind import PIXELS, Format

Transform = Callable[[int, np.ndarray, np.ndarray], Labelled]

_ALIGNMENT = 8  # bytes, of the first tensor of a safetensors file
_WRITE_BUFFER = 2**20


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
    sites: Sequence[int] | None = None,
    sample_format: Format = PIXELS,
    numbers: np.ndarray | None = None,
) -> Manifest:
    """Writes the shards, their index and the manifest into ``folder``, a client at a time.

    Args:
      folder: An empty folder.
      dataset: The data set's name.
      images: Such as uint8 [samples, height, width, channels]; of the type of the format.
      labels: uint8 [samples], or float32 [samples, numbers].
      clients: For each client the indices of its samples, in the order in which it trains on them; may be none.
      classes: The number of classes; 0 where labels are numbers.
      transform: ``(client, images, labels) -> (images, labels)`` of the same shapes and types, what a client sees in
        place of its samples.
      held_out: For the manifest.
      clients_digest: For the manifest.
      sites: How many of the clients each site has, in the order of the clients; None without sites.
      sample_format: The types of samples and labels, and what else their shapes do not say.
      numbers: int64 [clients], the numbers of the clients in the partition, by which ``transform`` knows them; None for
        0, 1, 2, ...
    """
    offsets = np.cumsum([0, *map(len, clients)], dtype=np.int64)
    samples, image_shape = int(offsets[-1]), images.shape[1:]
    written, sums = np.empty((samples, *labels.shape[1:]), labels.dtype), []
    with shards_path(folder).open("wb", _WRITE_BUFFER) as file:
        file.write(_header(images, written, len(clients)))
        file.write(offsets.astype("<i8").tobytes())
        for client, indices in enumerate(clients):
            shard = images[indices], labels[indices]
            if transform is not None:
                shard = transform(client if numbers is None else int(numbers[client]), *shard)
            mine = [np.ascontiguousarray(part).reshape(-1).view(np.uint8).data for part in shard]
            file.write(mine[0])
            written[offsets[client] : offsets[client + 1]] = shard[1]
            sums.append(sha256(*mine))
        file.write(written.reshape(-1).view(np.uint8).data)
    digest = write_index(folder, np.diff(offsets), sums)
    owners = None if sites is None else sites_of(sums, sites)
    manifest = Manifest(
        dataset=dataset,
        image_shape=image_shape,
        classes=classes,
        clients=len(clients),
        samples=samples,
        digest=digest if owners is None else digest_of(site.digest for site in owners),
        held_out=held_out,
        clients_digest=clients_digest,
        sites=owners,
        format=sample_format,
        numbers=None if numbers is None else tuple(numbers.tolist()),
    )
    manifest.write(folder)
    return manifest


def _header(images: np.ndarray, labels: np.ndarray, clients: int) -> bytes:
    """The head of the safetensors file: length of the JSON (uint64), then the JSON, padded with spaces.

    Written here and not by the library, which would want all images in memory a second time.
    """
    tensors, end = {}, 0
    for name, kind, itemsize, shape in (
        ("offsets", "I64", 8, [clients + 1]),
        ("images", SAFETENSORS_TYPES[images.dtype.name], images.itemsize, [len(labels), *images.shape[1:]]),
        ("labels", SAFETENSORS_TYPES[labels.dtype.name], labels.itemsize, list(labels.shape)),
    ):
        start, end = end, end + itemsize * math.prod(shape)
        tensors[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
