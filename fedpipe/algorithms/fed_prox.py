"""FedProx: a client is pulled back to the global weights while it trains.

Client k minimises F_k(w) + mu / 2 ||w - w_t||^2 instead of its own loss F_k, so each step's gradient gets
mu (w - w_t) added, where w_t are the global weights. ``mu: 0`` is FedAvg.

Source: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", algorithm 2,
https://arxiv.org/abs/1812.06127.
"""

from fedpipe.config.section import NotNegative, Section
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import pulled_to
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides
BATCH_NORM = "averaged"


class Params(Section):
    """``mu``: how strong the pull is."""

    mu: NotNegative = 0.01


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains on the client's samples with the proximal term."""
    local = task.train(server.weights, client, pulled_to(server.weights, task.algorithm.mu))
    return Contribution(local.update, task.weight(client), local.measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the mean update."""
    return task.server_step(server, total.update)
