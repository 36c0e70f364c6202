"""A batch as a file of the pool: safetensors, in which equal samples give equal bytes.

images        uint8 [n, height, width, channels]
labels        uint8 [n]
clients       int32 [n], where the samples have clients: the number of each sample's client in client_names
client_names  uint8: a JSON list of the clients' names in UTF-8, sorted
positions     int64 [n], ascending, where samples were withdrawn: which of the samples that came each one is
"""

import json
from dataclasses import dataclass, replace

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpipe.datasets.raw import Labelled


@dataclass(frozen=True)
class Batch:
    """The samples of a batch.

    Attributes:
      images: uint8 [n, height, width, channels].
      labels: uint8 [n].
      clients: The name of each sample's client, text [n]; None where the batch names none.
      positions: Which of the samples that came each one is, int64 [n], ascending; None: these are all.
    """

    images: np.ndarray
    labels: np.ndarray
    clients: np.ndarray | None = None
    positions: np.ndarray | None = None

    @property
    def labelled(self) -> Labelled:
        """The images and labels."""
        return self.images, self.labels

    def without(self, client: str) -> "Batch":
        """The batch without the samples of ``client``."""
        if self.clients is None or not (self.clients == client).any():
            return self
        kept = self.clients != client
        positions = np.arange(len(kept), dtype=np.int64) if self.positions is None else self.positions
        return replace(
            self,
            images=self.images[kept],
            labels=self.labels[kept],
            clients=self.clients[kept],
            positions=positions[kept],
        )

    def encode(self) -> bytes:
        """The file's content."""
        tensors = {"images": self.images, "labels": self.labels}
        if self.clients is not None:
            names, numbers = np.unique(self.clients, return_inverse=True)
            text = json.dumps(names.tolist(), ensure_ascii=False).encode()
            tensors["clients"] = numbers.astype(np.int32)
            tensors["client_names"] = np.frombuffer(text, np.uint8)
        if self.positions is not None:
            tensors["positions"] = self.positions
        return save(tensors)


def decode(content: bytes) -> Batch:
    """The batch in a file's content.

    Raises:
      ValueError: The file is not a batch.
    """
    try:
        tensors = load(content)
        clients = tensors.get("clients")
        if clients is not None:
            clients = np.array(json.loads(tensors["client_names"].tobytes()), str)[clients]
        return Batch(tensors["images"], tensors["labels"], clients, tensors.get("positions"))
    except (SafetensorError, KeyError, IndexError) as error:
        raise ValueError(str(error)) from None
