"""FedBN: batch normalization is personal; each client trains and keeps its own, and never sends it.

    client k:  trains (base w, its own batch normalization b_k) together;  sends w - w_k;  keeps b_k
    server:    w' = w - server_rate x sum_k n_k (w - w_k) / sum_k n_k

b_k is scale, offset, moving mean and moving variance of every layer of batch normalization that is trained, at first
those of the first weights. The global model keeps these, so its accuracy on the test images says little. `personal`
gives the model that a client uses.

Source: Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", algorithm 1,
https://arxiv.org/abs/2102.07623.
"""

import math
from typing import Any

from fedpipe.config.train import Train
from fedpipe.contracts.model import MODELS
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides
BATCH_NORM = "kept"


def check(settings: Train) -> None:
    """Raises ValueError for a model that has no batch normalization."""
    if MODELS.of(settings.model).keras_model is None:
        raise ValueError(
            f"'train.algorithm' fed_bn keeps batch normalization at the clients, and 'train.model' {settings.model} "
            "has none: choose keras_cnn with 'train.keras_cnn.batch_norm' true, a Keras model of your own, or fed_avg"
        )


def client_init(task: Task) -> tuple[Any, list[Any]]:
    """Whether the client has batch normalization of its own (1.0), and its weights."""
    return tf.constant(0.0), _own(task, task.zeros())


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The global base with the client's own batch normalization."""
    started, own = client.kept
    first = _own(task, server.weights)
    return _joined(
        task, _base(task, server.weights), [tf.where(started > 0, *each) for each in zip(own, first, strict=True)]
    )


def update_zeros(task: Task) -> list[Any]:
    """Zeros in the shapes of a client's message."""
    return _base(task, task.zeros())


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains all layers; sends the base and keeps batch normalization."""
    local = task.train(personal(task, server, client), client)
    kept = tf.constant(1.0), _own(task, local.weights)
    return Contribution(_base(task, local.update), task.weight(client), local.measurements, kept=kept)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the base along the mean update."""
    still = [tf.zeros_like(w) for w in _own(task, server.weights)]
    return task.server_step(server, _joined(task, total.update, still))


def message_bytes(task: Task) -> MessageBytes:
    """The global model's batch normalization stays as it was, so only the base goes down."""
    return MessageBytes(down=4 * sum(map(math.prod, _base(task, list(task.network.shapes.values())))))


def _own(task: Task, tensors: list[Any]) -> list[Any]:
    """Of one tensor for each weight, those of batch normalization."""
    names = task.network.batch_norm
    return [tensor for name, tensor in zip(task.network.shapes, tensors, strict=True) if name in names]


def _base(task: Task, tensors: list[Any]) -> list[Any]:
    """Of one tensor for each weight, the others."""
    names = task.network.batch_norm
    return [tensor for name, tensor in zip(task.network.shapes, tensors, strict=True) if name not in names]


def _joined(task: Task, base: list[Any], own: list[Any]) -> list[Any]:
    """One tensor for each weight, in order."""
    bases, owns = iter(base), iter(own)
    return [next(owns if name in task.network.batch_norm else bases) for name in task.network.shapes]
