"""Krum again and again, then of each weight the mean of the values nearest to the median.

For n clients with samples, of which at most f are assumed to be attackers:

    1. Krum (krum.py) chooses an update; it is taken out, and Krum chooses from the rest, theta = n - 2f times.
    2. Of each weight, beta = theta - 2f of the chosen values are averaged: those nearest to their median.

Clients' weights are not used. All updates of a cohort are held at once: clients x weights x 4 bytes.

Source: El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium", section 4,
https://arxiv.org/abs/1802.07927. It needs n >= 4f + 3.
"""

from typing import Any

from fedpipe.config.section import Section, Size
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.collected import count, krum_scores, row, squared_distances
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.measurements import Counted, Measurements
from fedpipe.learning.task import Task

COLLECTS = True  # what `encode` returns is stacked, not added
IGNORES_WEIGHTS = True  # all clients with samples count alike


class Params(Section):
    """``attackers``: f, number of attackers in a cohort that it has to tolerate."""

    attackers: Size = 1


def smallest_cohort(settings: Train) -> int:
    """How many clients a round needs."""
    return 4 * settings.params_of("aggregator").attackers + 3


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """One row per client that has samples."""
    return row(update, weight)


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The mean around the median of the chosen rows; zeros if there are none."""
    attackers, theta = task.aggregator.attackers, _theta(task, total)
    beta = tf.minimum(tf.maximum(theta - 2 * attackers, 1), theta)
    chosen = _chosen(squared_distances(total), theta, attackers)

    def around_the_median(rows: Any) -> Any:
        ordered = tf.sort(tf.gather(rows, chosen), axis=0)

        # The beta values nearest to the median stand side by side: the window whose farther end is nearest.
        def mean_of_nearest() -> Any:
            median = (ordered[(theta - 1) // 2] + ordered[theta // 2]) / 2
            windows = theta - beta + 1
            farthest = tf.maximum(median - ordered[:windows], ordered[beta - 1 :] - median)
            first = tf.argmin(farthest, axis=0, output_type=tf.int32)
            place = tf.reshape(tf.range(theta), [-1, *[1] * (len(rows.shape) - 1)])
            inside = (place >= first) & (place < first + beta)
            return tf.reduce_sum(tf.where(inside, ordered, 0.0), axis=0) / tf.cast(beta, tf.float32)

        return tf.cond(theta > 0, mean_of_nearest, lambda: tf.zeros(rows.shape[1:]))

    return tf.nest.map_structure(around_the_median, total), state


def server_measurements(task: Task, before: Tensors, after: Tensors, total: Tensors) -> Measurements:
    """Clients that Krum did not choose. Of the others, each weight leaves out some more."""
    return {"left_out": Counted(count(total) - _theta(task, total))}


def _theta(task: Task, total: Tensors) -> Any:
    """How many clients Krum chooses; a round may have fewer than were asked for, and then it is as much as there is."""
    clients = count(total)
    return tf.minimum(tf.maximum(clients - 2 * task.aggregator.attackers, 1), clients)


def _chosen(distances: Any, theta: Any, attackers: int) -> Any:
    """The numbers of the rows that Krum chooses, int32 [theta], ascending."""

    def without_next(step: Any, remaining: Any) -> tuple[Any, Any]:
        # Among those left only: all scores are infinite where distances are too large for float32.
        left = tf.cast(tf.where(remaining)[:, 0], tf.int32)
        best = left[tf.argmin(tf.gather(krum_scores(distances, remaining, attackers), left))]
        # Not `!=`, which in the graphs of TFF compares the Python objects.
        return step + 1, remaining & tf.not_equal(tf.range(tf.size(remaining)), best)

    start = tf.constant(0), tf.ones([tf.shape(distances)[0]], tf.bool)
    _, left = tf.while_loop(lambda step, _: step < theta, without_next, start)
    return tf.cast(tf.where(~left)[:, 0], tf.int32)
