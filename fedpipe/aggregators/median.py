"""The coordinate-wise median of the updates, whatever the clients' weights; for an even number, the mean of the two.

All updates of a cohort are held at once: clients x weights x 4 bytes.

Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", option I,
https://arxiv.org/abs/1803.01498.
"""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task

COLLECTS = True  # what `encode` returns is stacked, not added
IGNORES_WEIGHTS = True  # all clients with samples count alike
AVERAGES_BATCH_NORM = True


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """One row per client that has samples, none for the others."""
    rows = tf.cast(weight > 0, tf.int32)
    return [tf.repeat(part[tf.newaxis], rows, axis=0) for part in update]


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The median of the rows [clients, ...] of each weight; zeros if there are none."""

    def median(rows: Any) -> Any:
        count = tf.shape(rows)[0]
        ordered = tf.sort(rows, axis=0)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

    shapes = [part.shape[1:] for part in total]
    some = tf.shape(total[0])[0] > 0
    return [
        tf.cond(some, lambda part=part: median(part), lambda shape=shape: tf.zeros(shape))
        for part, shape in zip(total, shapes, strict=True)
    ], state
