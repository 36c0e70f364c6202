"""A baseline without a federation: each client trains a model by itself, and sends nothing.

    client k:  v_k <- local training from v_k on its own samples, in each of its rounds;  v_k = w before the first

w are the first weights, which no round changes, so there is no global model: loss and accuracy on validation samples
and test images are means over the clients' models. Rounds, cohorts and local steps are those of FedAvg with the same
params, so a client sees as many samples as in a federation. As there, the client's optimizer has a new state in each
round. The gain of a federation is its difference from this baseline.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", algorithm 1
without its server, https://arxiv.org/abs/1602.05629; Yu et al. 2020, "Salvaging Federated Learning by Local
Adaptation", section 3, compares clients' own models with the federated one, https://arxiv.org/abs/2002.04758.
"""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
from fedpipe.learning.task import Task

HAS_NO_GLOBAL_MODEL = True
BATCH_NORM = "averaged"  # of one model: its own


def client_init(task: Task) -> tuple[Any, list[Any]]:
    """Whether the client has trained (1.0), and its model."""
    return tf.constant(0.0), task.zeros()


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The client's own model; the first weights before its first round."""
    started, own = client.kept
    return [tf.where(started > 0, mine, w) for mine, w in zip(own, server.weights, strict=True)]


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains the client's model and keeps it."""
    local = task.train(personal(task, server, client), client)
    return Contribution(task.zeros(), task.weight(client), local.measurements, kept=(tf.constant(1.0), local.weights))


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Nothing."""
    return server


def message_bytes(task: Task) -> MessageBytes:
    """Nothing is sent."""
    return MessageBytes(down=0, update=0, besides=0)
