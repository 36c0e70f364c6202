"""MimeLite: clients step with the server's momentum, which stays fixed while they train.

The server keeps a momentum s, zeros at first. Client k steps with

    w <- w - client_rate x ((1 - beta) g + beta s),   g = gradient of its batch at w

and sends w_t - w_k and the gradient G_k of all its samples at the global weights w_t. The server moves along the mean
of w_t - w_k, and then sets s' = (1 - beta) mean_k G_k + beta s. ``beta: 0`` is FedAvg.

Source: Karimireddy et al. 2020, "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning", algorithm 1
with MimeSGDm of table 2, https://arxiv.org/abs/2008.03606.
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import GradientAt
from fedpipe.learning.task import Task


class Params(Section):
    """``beta``: the weight of the server's momentum in a client's step."""

    beta: Rate = 0.9


def check(settings: Train) -> None:
    """Raises ValueError for client optimizers with statistics of their own."""
    optimizer = settings.client_optimizer
    if optimizer.name != "sgd" or optimizer.momentum:
        raise ValueError(
            "'train.algorithm' mime_lite gives clients the server's momentum: set 'train.client_optimizer.name' to sgd "
            "and 'train.client_optimizer.momentum' to 0.0; the momentum is 'train.mime_lite.beta'"
        )


def cost(settings: Train) -> Cost:
    """Local steps, and the gradient of all samples."""
    return Cost(settings.local_epochs, 1)


def server_init(task: Task) -> list[Any]:
    """s before the first round."""
    return task.zeros()


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains with the server's momentum; the gradient of all samples goes along."""
    beta = task.algorithm.beta

    def with_momentum(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        return [(1 - beta) * g + beta * s for g, s in zip(gradients, server.state, strict=True)]

    local = task.train(server.weights, client, with_momentum)
    gradient, _ = task.full_gradient(server.weights, client)
    return Contribution(local.update, task.weight(client), local.measurements, means=gradient)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the weights, then the momentum."""
    beta = task.algorithm.beta
    state = [(1 - beta) * g + beta * s for g, s in zip(total.means, server.state, strict=True)]
    return task.server_step(server._replace(state=state), total.update)
