"""Agnostic federated learning (AFL): trains for the mixture of the clients on which the model is worst.

The server keeps a weight lambda_k for each client, 1 / clients at first, and solves min over w, max over lambda of
sum_k lambda_k F_k(w): client k measures its mean loss F_k at the global weights w and trains to w_k;

    w' = w - server_rate x sum_k lambda_k (w - w_k) / sum_k lambda_k
    lambda' = projection of  lambda_k + rate x F_k  onto the simplex  (lambda_k >= 0, sum_k lambda_k = 1)

The sums are over the round's clients; the lambda of the others only changes by the projection. The paper takes one
gradient step of w per round, and here it is local training as in FedAvg. It is meant for few clients that all take
part: each gets all of lambda, and as many numbers go back.

Source: Mohri et al. 2019, "Agnostic Federated Learning", algorithm 1 (Stochastic-AFL),
https://arxiv.org/abs/1902.00146. Projection: Duchi et al. 2008, "Efficient Projections onto the l1-Ball for Learning in
High Dimensions", figure 1.
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import FORWARD, Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
from fedpipe.learning.task import Task

NEEDS_WEIGHTS = True  # clients count by the weights of their contributions


class Params(Section):
    """``rate``: of the ascent of lambda."""

    rate: Positive = 0.01


def check(settings: Train) -> None:
    """Raises ValueError for another weighting."""
    if settings.client_weighting != "uniform":
        raise ValueError(
            "'train.algorithm' afl weighs clients by lambda, not by their numbers of samples: set "
            "'train.client_weighting' to uniform"
        )


def cost(settings: Train) -> Cost:
    """Local steps, and the loss before them."""
    return Cost(settings.local_epochs, FORWARD)


def server_init(task: Task) -> Any:
    """lambda before the first round."""
    return tf.fill([task.clients], tf.constant(1.0 / task.clients))


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains; the loss before goes along, in the client's place."""
    loss = task.loss(server.weights, client)
    local = task.train(server.weights, client)
    weight = task.weight(client) * tf.gather(server.state, client.id)
    losses = tf.one_hot(client.id, task.clients) * loss
    return Contribution(local.update, weight, local.measurements, sums=losses)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the weights down and lambda up."""
    return task.server_step(
        server._replace(state=_project(server.state + task.algorithm.rate * total.sums)), total.update
    )


def _project(values: Any) -> Any:
    """The point of the simplex that is next to ``values``, float32 [n]."""
    descending = tf.sort(values, direction="DESCENDING")
    counts = tf.range(1, tf.size(values) + 1)
    thresholds = (tf.cumsum(descending) - 1) / tf.cast(counts, tf.float32)
    positive = tf.reduce_max(tf.where(descending > thresholds, counts, 1))
    return tf.maximum(values - thresholds[positive - 1], 0.0)


def message_bytes(task: Task) -> MessageBytes:
    """A device needs its own lambda only, and sends its loss: the tensor of all clients is how these are added up."""
    return MessageBytes(down=4 * (task.network.parameters + 1), besides=4)
