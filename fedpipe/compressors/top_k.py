"""A client sends the largest entries of its update only, and keeps the rest for its next round.

    due = update + residual;   sent = the k entries of due with the largest absolute values;   residual' = due - sent

with k = share x entries, rounded up. The kept rest makes up for the omitted entries (error feedback).

Sources: Stich et al. 2018, "Sparsified SGD with Memory", https://arxiv.org/abs/1809.07599; Aji and Heafield 2017,
"Sparse Communication for Distributed Gradient Descent", https://arxiv.org/abs/1704.05021.

Bytes: 4 for each value, and its places: ceil(log2 entries) bits for each value, or one bit for each entry, whichever
is less.
"""

import math
from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import joined, parted


class Params(Section):
    """``share``: of the entries, those that are sent."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.1


def client_init(task: Task, zeros: Tensors) -> Tensors:
    """The residual before a client's first round; ``zeros`` has the shapes of an update."""
    return zeros


def compress(task: Task, update: Tensors, client: Client, residual: Tensors) -> tuple[Tensors, Tensors, Any]:
    """The update as the server decodes it, the new residual, and its bytes."""
    due = joined(update) + joined(residual)
    entries = due.shape[0]
    count = math.ceil(task.compressor.share * entries)
    places = tf.math.top_k(tf.abs(due), count, sorted=False).indices
    sent = tf.scatter_nd(places[:, tf.newaxis], tf.gather(due, places), [entries])
    return parted(sent, update), parted(due - sent, residual), tf.constant(_size(count, entries), tf.int64)


def _size(count: int, entries: int) -> int:
    """Bytes of ``count`` values out of ``entries``."""
    bits = min(count * (entries - 1).bit_length(), entries)
    return 4 * count + -(-bits // 8)
