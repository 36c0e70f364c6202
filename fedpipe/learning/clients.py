"""How a client's graph gets at the client's data on the worker: its shard, and the algorithm's client state.

A client's state never leaves the worker's disk: a file per client and round, which the client's
graph reads and writes. The driver says which round's file is the client's last one, so a round that is run again reads
and writes the same.

In a cluster a file may be written again at any time: a worker that was taken for lost, and whose clients others have
run, may wake up and continue. Its files have the same bits, and a file of a name is always a whole one: TensorFlow's
``Save`` writes to a name of its own (CLIENT.ROUND.tempstateNUMBER) and renames that at the end, which ``write_file``
does not. A worker that is killed before the end leaves that other name behind (fedpipe/runtime/kept_state.py).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.datasets.shards import open_shards, read_shard_in_graph
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.vectors import joined, parted
from fedpipe.learning.work_request import WorkRequest

# (kept, counts) -> operations to wait for
Keep = Callable[[Tensors, Any], list[Any]]
_TENSOR = "kept"  # the only one in a client's file


class ClientReader:
    """Reads clients on the worker, and writes what they keep."""

    def __init__(self, shards: Path, kept: Path | None = None, first: int = 0, pooled: bool = False) -> None:
        """Opens the shards.

        Args:
          shards: The folder of the shards, as the worker sees it.
          kept: The folder for what clients keep, as the worker sees it; None for an algorithm that keeps nothing.
          first: The id of the client that has the first shard; other than 0 at a site, whose clients are some of all.
          pooled: Whether every client that is read has the samples of all.

        Raises:
          PipelineError: There are no shards in the folder.
        """
        self._shards = open_shards(shards)
        self._kept, self._first, self._pooled = kept, first, pooled

    @property
    def sizes(self) -> np.ndarray:
        """How many samples each client of the folder has: int64 [clients]."""
        return np.diff(self._shards.offsets)

    def read(self, request: WorkRequest, round_number: Any, first: Tensors) -> tuple[Client, Keep]:
        """A client's data, and how it keeps something.

        Args:
          request: Which client it is, and how much it does.
          round_number: int32 scalar.
          first: The client's state before its first round.
        """
        client, last, work = request.id, request.last_round, request.work
        images, labels = read_shard_in_graph(self._shards, None if self._pooled else client - self._first)
        if self._kept is None:
            return Client(images, labels, client, round_number, work=work), lambda kept, counts: []
        entries = sum(leaf.shape.num_elements() for leaf in tf.nest.flatten(first))

        def stored() -> Any:
            literal = re.sub(r"[*?[\\]", r"\\\g<0>", str(self._kept))  # `Restore` takes a pattern
            path = self._path(literal, client, last)
            content = tf.raw_ops.Restore(file_pattern=path, tensor_name=_TENSOR, dt=tf.float32)
            return tf.ensure_shape(content, [entries])

        values = tf.cond(last < 0, lambda: joined(first), stored)

        def keep(kept: Tensors, counts: Any) -> list[Any]:
            content = tf.where(counts, joined(kept), values)
            path = self._path(str(self._kept), client, round_number)
            return [tf.raw_ops.Save(filename=path, tensor_names=[_TENSOR], data=[content])]

        return Client(images, labels, client, round_number, parted(values, first), work), keep

    @staticmethod
    def _path(folder: str, client: Any, round_number: Any) -> Any:
        name = tf.strings.join([tf.strings.as_string(client), tf.strings.as_string(round_number)], ".")
        return tf.strings.join([f"{folder}/", name])
