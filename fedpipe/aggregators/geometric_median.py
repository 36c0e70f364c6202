"""The weighted geometric median: the point with the least sum of distances from the updates, by Weiszfeld's steps.

    z <- sum_k beta_k u_k / sum_k beta_k   with beta_k = weight_k / max(smoothing, |u_k - z|)

starting from the weighted mean. All updates of a cohort are held at once: clients x weights x 4 bytes.

Source: Pillutla, Kakade and Harchaoui 2022, "Robust Aggregation for Federated Learning" (RFA), algorithm 2 (smoothed
Weiszfeld), https://arxiv.org/abs/1912.13445. There each step is a round of secure sums over the clients, and three are
enough in practice; here the server has all updates, and steps cost little.
"""

from typing import Any

from fedpipe.config.section import Count, Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.collected import row, squared_distances_to
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import bytes_of

COLLECTS = True  # what `encode` returns is stacked, not added


class Params(Section):
    """``steps`` of Weiszfeld; ``smoothing``: the least distance that is divided by."""

    steps: Count = 8
    smoothing: Positive = 1e-6


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """One row per client that has samples, and its weight."""
    return row((update, weight), weight)


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The geometric median of the rows; zeros if there are none."""
    rows, weights = total

    def mean(betas: Any) -> Tensors:
        shares = tf.math.divide_no_nan(betas, tf.reduce_sum(betas))

        def weighted(part: Any) -> Any:
            return tf.reduce_sum(part * tf.reshape(shares, [-1, *[1] * (len(part.shape) - 1)]), axis=0)

        return tf.nest.map_structure(weighted, rows)

    middle = mean(weights)
    for _ in range(task.aggregator.steps):
        far = tf.sqrt(squared_distances_to(rows, middle))
        middle = mean(weights / tf.maximum(far, task.aggregator.smoothing))
    return middle, state


def message_bytes(task: Task, encoded: Tensors) -> int:
    """Those of the update: its weight is not counted, as with other aggregators."""
    return bytes_of(encoded[0])
