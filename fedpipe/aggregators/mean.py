"""The weighted mean: sum_k weight_k update_k / sum_k weight_k; zeros if no client has a weight."""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task

AVERAGES_BATCH_NORM = True


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The terms that are summed over the clients."""
    return [part * weight for part in update]


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean, from the sums over the cohort; and the state of the next round."""
    return [tf.math.divide_no_nan(part, weight) for part in total], state
