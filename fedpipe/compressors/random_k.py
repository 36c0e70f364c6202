"""A client sends random entries of its update, and keeps the rest for its next round.

    due = update + residual;   sent = k random entries of due;   residual' = due - sent

with k = share x entries, rounded up. The server draws the same places from the same seed, so none is sent. Entries are
sent as they are, not divided by the share: the kept rest makes up for the omitted entries (error feedback).

Sources: Stich et al. 2018, "Sparsified SGD with Memory", https://arxiv.org/abs/1809.07599; Konečný et al. 2016,
"Federated Learning: Strategies for Improving Communication Efficiency", section 2 (random masks),
https://arxiv.org/abs/1610.05492.

Bytes: 4 for each value, and 8 for the seed.
"""

import math
from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import joined, parted

_SEED_BYTES = 8  # two int32


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
    drawn = tf.random.stateless_uniform([entries], task.compression_seed(client), None, None, tf.int32, alg="philox")
    places = tf.math.top_k(drawn, count, sorted=False).indices
    sent = tf.scatter_nd(places[:, tf.newaxis], tf.gather(due, places), [entries])
    return parted(sent, update), parted(due - sent, residual), tf.constant(4 * count + _SEED_BYTES, tf.int64)
