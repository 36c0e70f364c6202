"""The coordinate-wise trimmed mean: of each weight, the mean without the b smallest and the b largest values.

b = trim x clients, rounded down. Clients' weights are not used. All updates of a cohort are held at once: clients x
weights x 4 bytes.

Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", option II,
https://arxiv.org/abs/1803.01498. It tolerates a share of up to ``trim`` of attackers.
"""

from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.lazy import tf
from fedpipe.learning.collected import row
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task

COLLECTS = True  # what `encode` returns is stacked, not added
IGNORES_WEIGHTS = True  # all clients with samples count alike
AVERAGES_BATCH_NORM = True


class Params(Section):
    """``trim``: the share of clients that is left out at either end."""

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """One row per client that has samples."""
    return row(update, weight)


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The trimmed mean of the rows [clients, ...] of each weight; zeros if there are none."""

    def trimmed(rows: Any) -> Any:
        clients = tf.shape(rows)[0]
        # 0.29 x 100 is a little less than 29 in floating point.
        cut = tf.cast(tf.floor(task.aggregator.trim * tf.cast(clients, tf.float64) + 1e-9), tf.int32)
        inner = tf.sort(rows, axis=0)[cut : clients - cut]
        return tf.math.divide_no_nan(tf.reduce_sum(inner, axis=0), tf.cast(clients - 2 * cut, tf.float32))

    return tf.nest.map_structure(trimmed, total), state
