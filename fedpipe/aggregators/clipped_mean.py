"""The weighted mean of updates that are scaled down to an L2 norm of at most ``norm`` before they are averaged.

It bounds what one client can do to the model (Sun et al. 2019, "Can You Really Backdoor Federated Learning?",
section 4.2, https://arxiv.org/abs/1911.07963).
"""

from typing import Any

from fedpipe.aggregators import mean
from fedpipe.config.section import Positive, Section
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task


class Params(Section):
    """``norm``: the largest L2 norm of a client's update, over all weights together."""

    norm: Positive = 1.0


finish = mean.finish


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """What is summed over the clients."""
    return mean.encode(task, state, clip(update, task.aggregator.norm), weight, client)
