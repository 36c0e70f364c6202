"""q-FedAvg: clients with a high loss count more, so that accuracy is spread more evenly.

Client k measures its mean loss F_k at the global weights w, trains to w_k, and with u_k = w - w_k sends

    D_k = F_k^q L u_k,    h_k = q F_k^(q - 1) ||L u_k||^2 + L F_k^q
    w' = w - server_rate x sum_k D_k / sum_k h_k

L, the smoothness of the losses, is 1 / rate in the paper, which has plain SGD. Momentum rho moves the weights by
rate / (1 - rho) along each gradient, in the steps that follow it, so here L = (1 - rho) / rate. Both are divided by L,
which changes no quotient:

    update D_k / h_k = u_k / s_k,    weight h_k / L = F_k^q s_k,    s_k = 1 + q L ||u_k||^2 / F_k

Clients count once, whatever their numbers of samples. ``q: 0`` is FedAvg with ``train.client_weighting`` uniform.
Losses below 1e-10 count as 1e-10.

Source: Li et al. 2020, "Fair Resource Allocation in Federated Learning", algorithm 2,
https://arxiv.org/abs/1905.10497.
"""

from fedpipe.config.section import NotNegative, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import FORWARD, Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.schedules import rate_in_graph
from fedpipe.learning.task import Task

NEEDS_WEIGHTS = True  # clients count by the weights of their contributions


class Params(Section):
    """``q``: how much fairness; 0 for none."""

    q: NotNegative = 1.0


def check(settings: Train) -> None:
    """Raises ValueError for another weighting, and for client optimizers other than SGD."""
    if settings.client_weighting != "uniform":
        raise ValueError(
            "'train.algorithm' q_fed_avg weighs clients by their losses, not by their numbers of samples: set "
            "'train.client_weighting' to uniform"
        )
    if settings.client_optimizer.name != "sgd":
        raise ValueError(
            "'train.algorithm' q_fed_avg takes 1 / rate for the smoothness of the losses, which holds for SGD: set "
            "'train.client_optimizer.name' to sgd"
        )


def cost(settings: Train) -> Cost:
    """Local steps, and the loss before them."""
    return Cost(settings.local_epochs, FORWARD)


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains, and weighs the update by the loss before."""
    q, optimizer = task.algorithm.q, task.settings.client_optimizer
    loss = tf.maximum(task.loss(server.weights, client), 1e-10)
    local = task.train(server.weights, client)
    rate = rate_in_graph(optimizer, task.settings.rounds, client.round) / (1 - optimizer.momentum)
    length = tf.add_n([tf.reduce_sum(tf.square(u)) for u in local.update])
    # A schedule may end at rate 0, with updates of length 0.
    stretch = 1 + q * tf.math.divide_no_nan(length, rate) / loss
    update = [u / stretch for u in local.update]
    return Contribution(update, loss**q * stretch * task.weight(client), local.measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the sum of D_k, divided by that of h_k."""
    return task.server_step(server, total.update)
