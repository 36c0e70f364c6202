"""How a client's graph gets at the client's data on the worker: its shard, and what an algorithm left with it.

What a client keeps from round to round never leaves the worker's disk: a file per client and round, which the client's
graph reads and writes. The driver says which round's file is the client's last one, so a round that is run again reads
and writes the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.datasets.shards import Shards, read_shard_in_graph
from fedpipe.lazy import tf
from fedpipe.learning.interface import REPORTS, TRAINS, Client, Tensors

# (kept, finite) -> operations to wait for
Keep = Callable[[Tensors, Any], list[Any]]


class ClientReader:
    """Reads clients on the worker, and writes what they keep."""

    def __init__(self, shards: Path, kept: Path | None = None) -> None:
        """Opens the shards.

        Args:
          shards: The folder of the shards, as the worker sees it.
          kept: The folder for what clients keep, as the worker sees it; None for an algorithm that keeps nothing.

        Raises:
          PipelineError: There are no shards in the folder.
        """
        self._shards = Shards.open(shards)
        self._kept = kept

    @property
    def who(self) -> tf.TensorSpec:
        """What says which client it is, and what it does.

        [id, round of its last file or -1, thousandths of its local steps that it takes, `TRAINS` and `REPORTS` as bits]
        """
        return tf.TensorSpec([4], tf.int32)

    @staticmethod
    def asked(clients: Any, last: Any = -1, work: Any = 1000, part: Any = TRAINS | REPORTS) -> np.ndarray:
        """int32 [n, 4]: `who` for each of ``clients`` (ids [n]); the others are [n] or the same for all."""
        clients = np.asarray(clients, np.int32)
        given = clients, last, work, part
        columns = [np.broadcast_to(np.asarray(column, np.int32), clients.shape) for column in given]
        return np.stack(columns, axis=1)

    def read(self, who: Any, round_number: Any, first: Tensors) -> tuple[Client, Keep]:
        """A client's data, and how it keeps something.

        Args:
          who: As the property says.
          round_number: int32 scalar.
          first: What the client has kept before its first round, in the structure of what it keeps.
        """
        client, last, work = who[0], who[1], who[2]
        images, labels = read_shard_in_graph(self._shards, client)
        if self._kept is None:
            return Client(images, labels, client, round_number, work=work), lambda kept, finite: []
        before = tf.nest.flatten(first)
        sizes = [leaf.shape.num_elements() for leaf in before]

        def together(leaves: Any) -> Any:
            return tf.concat([tf.reshape(leaf, [-1]) for leaf in leaves], 0)

        def stored() -> Any:
            content = tf.io.read_file(self._path(client, last))
            return tf.ensure_shape(tf.io.parse_tensor(content, tf.float32), [sum(sizes)])

        values = tf.cond(last < 0, lambda: together(before), stored)
        mine = [tf.reshape(part, leaf.shape) for part, leaf in zip(tf.split(values, sizes), before, strict=True)]

        def keep(kept: Tensors, finite: Any) -> list[Any]:
            content = tf.where(finite, together(tf.nest.flatten(kept)), values)
            return [tf.io.write_file(self._path(client, round_number), tf.io.serialize_tensor(content))]

        return Client(images, labels, client, round_number, tf.nest.pack_sequence_as(first, mine), work), keep

    def _path(self, client: Any, round_number: Any) -> Any:
        name = tf.strings.join([tf.strings.as_string(client), tf.strings.as_string(round_number)], ".")
        return tf.strings.join([f"{self._kept}/", name])
