"""FedDyn: a dynamic regulariser makes the clients' minima agree with the global one.

Client k keeps g_k, zeros at first, and trains on

    F_k(w) - <g_k, w> + alpha / 2 ||w - w_t||^2,      so its gradients get  - g_k + alpha (w - w_t)  added

from the global weights w_t to w_k. Then g_k' = g_k - alpha (w_k - w_t). The server keeps h, zeros at first:

    h' = h - alpha x p x mean_k (w_k - w_t),   w' = mean_k w_k - h' / alpha

The means are over the cohort, weighted with ``train.client_weighting``; p is the share of the cohort in the weights of
all clients. So h stays the weighted mean of g_k over all clients, and training ends at the minimum of the weighted
objective. In the paper all weights are 1, and p is the cohort's size divided by the number of clients: set
``train.client_weighting`` to uniform for that. A client that can take no local step has no weight.

The server's state here is h / alpha. Both means are what the aggregator makes of the updates, so an aggregator other
than the mean guards both places. With server SGD at rate 1 the step is the paper's.

Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", algorithm 1,
https://arxiv.org/abs/2111.04263.
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.learning.interface import Client, Contribution, Nothing, Server, Total
from fedpipe.learning.local_training import GradientAt
from fedpipe.learning.task import Task

ALL_WEIGHTS = True


class Params(Section):
    """``alpha``: how strong the regulariser is."""

    alpha: Positive = 0.01


def server_init(task: Task) -> list[Any]:
    """h / alpha."""
    return task.zeros()


def client_init(task: Task) -> list[Any]:
    """g_k before the client's first round."""
    return task.zeros()


def broadcast(task: Task, server: Server) -> tuple[()]:
    """Clients do not need h."""
    return Nothing


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains with the regulariser and renews the client's g_k."""
    alpha = task.algorithm.alpha

    def regularised(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        parts = zip(gradients, client.kept, weights, server.weights, strict=True)
        return [g - mine + alpha * (w - first) for g, mine, w, first in parts]

    local = task.train(server.weights, client, regularised)
    renewed = [mine + alpha * u for mine, u in zip(client.kept, local.update, strict=True)]
    return Contribution(local.update, task.weight(client), local.measurements, kept=renewed)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves to the mean of the clients' weights less h / alpha."""
    share = total.weight / total.all_weights
    state = [h + share * u for h, u in zip(server.state, total.update, strict=True)]
    return task.server_step(server._replace(state=state), [u + h for u, h in zip(total.update, state, strict=True)])
