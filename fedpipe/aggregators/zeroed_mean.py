"""The weighted mean of the updates whose L2 norm is at most ``norm``; longer ones are left out.

`clipped_mean` keeps the direction of an update that is too long, this one keeps nothing of it.

The threshold is fixed. An adaptive one follows a quantile of the norms that clients report, and attackers report norms
too: they could raise it.

Source: Sun et al. 2019, "Can You Really Backdoor Federated Learning?", section 4.2 (norm thresholding),
https://arxiv.org/abs/1911.07963.
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.measurements import Counted, Measurements
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import bytes_of, norm


class Params(Section):
    """``norm``: the largest L2 norm of an update that counts, over all weights together."""

    norm: Positive = 1.0


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """The sums over the clients: updates, the weight of those that count, and the number of the others."""
    counted = tf.where(norm(update) <= task.aggregator.norm, weight, 0.0)
    left_out = tf.cast((weight > 0) & (counted <= 0), tf.int32)
    return tf.nest.map_structure(lambda part: part * counted, update), counted, left_out


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The mean over the clients that count; zeros if none does."""
    update, counted, _ = total
    return tf.nest.map_structure(lambda part: tf.math.divide_no_nan(part, counted), update), state


def server_measurements(task: Task, before: Tensors, after: Tensors, total: Tensors) -> Measurements:
    """Clients whose update was too long."""
    return {"left_out": Counted(total[2])}


def message_bytes(task: Task, encoded: Tensors) -> int:
    """Those of the update, whose norm the server sees."""
    return bytes_of(encoded[0])
