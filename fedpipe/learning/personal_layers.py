"""Models whose last layers are personal: the common part of FedPer and FedRep.

A client keeps its head, the last ``layers`` of the model (a param of the algorithm), and sends the base, the others.
"""

import math
from typing import Any

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, MessageBytes, Server
from fedpipe.learning.task import Task


def base_size(task: Task) -> int:
    """How many of the model's weights, in order, are not personal."""
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in task.network.shapes))
    if task.algorithm.layers >= len(layers):
        raise PipelineError(
            f"params.yaml: 'train.{task.settings.algorithm}.layers' is {task.algorithm.layers}, and the model has "
            f"{len(layers)} layers with weights: give a smaller number, so that one of them is shared"
        )
    own = layers[-task.algorithm.layers :]
    return sum(name.rpartition("/")[0] not in own for name in task.network.shapes)


def client_init(task: Task) -> tuple[Any, list[Any]]:
    """Whether the client has a head (1.0), and the head."""
    return tf.constant(0.0), task.zeros()[base_size(task) :]


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The global base with the client's own head."""
    base = base_size(task)
    started, own = client.kept
    head = [tf.where(started > 0, mine, w) for mine, w in zip(own, server.weights[base:], strict=True)]
    return [*server.weights[:base], *head]


def update_zeros(task: Task) -> list[Any]:
    """Zeros in the shapes of a client's message."""
    return task.zeros()[: base_size(task)]


def message_bytes(task: Task) -> MessageBytes:
    """The head of the global model stays as it was drawn, so only the base goes down."""
    base = list(task.network.shapes.values())[: base_size(task)]
    return MessageBytes(down=4 * sum(math.prod(shape) for shape in base))
