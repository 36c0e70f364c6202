"""Ditto: each client trains a personal model beside the global one, which pulls at it.

The global model is FedAvg's. In each of its rounds, client k also trains its personal model v_k, which it keeps:

    v <- v - client_rate x (g(v) + lam (v - w)),   g = gradient of its batch, w = the global weights of the round

over the same ``train.local_epochs``. v_k is the global model before the client's first round. With ``lam: 0`` personal
models are trained alone; the larger lam, the nearer they are to the global model.

Source: Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization", algorithm 1,
https://arxiv.org/abs/2012.04221.
"""

from typing import Any

from fedpipe.config.section import NotNegative, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import pulled_to
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides
BATCH_NORM = "averaged"


class Params(Section):
    """``lam``: lambda of the paper, how strongly the global model pulls."""

    lam: NotNegative = 0.1


def cost(settings: Train) -> Cost:
    """Local steps for two models."""
    return Cost(2 * settings.local_epochs)


def client_init(task: Task) -> tuple[Any, list[Any]]:
    """Whether the client has a personal model (1.0), and the model."""
    return tf.constant(0.0), task.zeros()


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The client's own model; the global one before its first round."""
    started, own = client.kept
    return [tf.where(started > 0, mine, w) for mine, w in zip(own, server.weights, strict=True)]


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains the global model for the server, and the personal one for the client."""
    pull = pulled_to(server.weights, task.algorithm.lam)
    own = task.train(personal(task, server, client), client, pull).weights
    local = task.train(server.weights, client)
    return Contribution(local.update, task.weight(client), local.measurements, kept=(tf.constant(1.0), own))


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the mean update, as FedAvg."""
    return task.server_step(server, total.update)
