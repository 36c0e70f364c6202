"""Mime: clients step with the server's momentum, and with gradients that are corrected as in SVRG.

A round has two passes over its clients. In the first, each sends the gradient G_k of all its samples at the global
weights w_t, and c is their mean. In the second, client k steps with

    w <- w - client_rate x ((1 - beta) (g(w) - g(w_t) + c) + beta s),   g(.) = gradient of its batch

The server moves along the mean of w_t - w_k, and then sets its momentum s' = (1 - beta) c + beta s, zeros at first.
``mime_lite`` leaves out the correction, and with it the first pass. A client that takes no step in the second pass is
left out of both. The paper averages clients without weights: set ``train.client_weighting`` to uniform for that.

Source: Karimireddy et al. 2020, "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning", algorithm 1
with MimeSGDm of table 2, https://arxiv.org/abs/2008.03606.
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
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
            "'train.algorithm' mime gives clients the server's momentum: set 'train.client_optimizer.name' to sgd and "
            "'train.client_optimizer.momentum' to 0.0; the momentum is 'train.mime.beta'"
        )


def cost(settings: Train) -> Cost:
    """A pass for the gradient of all samples; then each local step has the gradients at two points."""
    return Cost(2 * settings.local_epochs, 1, exchanges=2)


def server_init(task: Task) -> dict[str, list[Any]]:
    """The momentum s and the mean gradient c."""
    return {"momentum": task.zeros(), "mean_gradient": task.zeros()}


def passes(task: Task) -> tuple[Any, ...]:
    """The mean gradient first, then training."""
    return (_send_gradient, _keep_mean_gradient), (client_update, server_update)


def _send_gradient(task: Task, server: Server, client: Client) -> Contribution:
    """First pass: G_k."""
    gradient, measurements = task.measured_gradient(server.weights, client)
    return Contribution(gradient, task.weight(client), measurements)


def _keep_mean_gradient(task: Task, server: Server, total: Total) -> Server:
    """c."""
    return server._replace(state={**server.state, "mean_gradient": total.update})


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Second pass: trains with corrected gradients and the server's momentum."""
    beta, mean, momentum = task.algorithm.beta, server.state["mean_gradient"], server.state["momentum"]

    def mimicked(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        parts = zip(gradients, gradient_at(server.weights), mean, momentum, strict=True)
        return [(1 - beta) * (g - there + c) + beta * s for g, there, c, s in parts]

    local = task.train(server.weights, client, mimicked)
    return Contribution(local.update, task.weight(client), local.measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the weights, then the momentum."""
    beta, mean = task.algorithm.beta, server.state["mean_gradient"]
    momentum = [(1 - beta) * c + beta * s for c, s in zip(mean, server.state["momentum"], strict=True)]
    return task.server_step(server._replace(state={**server.state, "momentum": momentum}), total.update)


def message_bytes(task: Task) -> MessageBytes:
    """Weights and momentum go down with the first pass, and the mean gradient with the second."""
    return MessageBytes(down=3 * 4 * task.network.parameters)
