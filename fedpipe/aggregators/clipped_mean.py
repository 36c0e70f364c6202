"""The weighted mean of updates that are scaled down to an L2 norm of at most ``norm`` before they are averaged.

It bounds what one client can do to the model (Sun et al. 2019, "Can You Really Backdoor Federated Learning?",
section 4.2, https://arxiv.org/abs/1911.07963).
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task


class Params(Section):
    """``norm``: the largest L2 norm of a client's update, over all weights together."""

    norm: Positive = 1.0


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The terms that are summed over the clients."""
    return [part * weight for part in clip(update, task.aggregator.norm)]


def clip_norm(task: Task, state: Tensors) -> Any:
    """The norm of params."""
    return task.aggregator.norm


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean, from the sums over the cohort; and the state of the next round."""
    return [tf.math.divide_no_nan(part, weight) for part in total], state
