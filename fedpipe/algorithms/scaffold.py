"""SCAFFOLD: control variates take the drift of each client out of its steps.

Server and clients keep c and c_k, zeros at first. Client k steps with gradient g + c - c_k, sends w - w_k, and sets

    option 1   c_k' = mean gradient of its samples at the global weights w
    option 2   c_k' = c_k - c + (w - w_k) / (steps x client rate)

The paper has plain SGD. With momentum, g + c - c_k is what the momentum adds up, and option 2 divides by the number of
plain steps that go as far (`accumulated_steps`), so that c_k stays a mean gradient.

With n_k the weights of ``train.client_weighting``, the server moves along the mean of w - w_k over the cohort, and

    c' = c + sum over the cohort of n_k (c_k' - c_k) / sum over all clients of n_k

So c stays the weighted mean of c_k over all clients, whoever takes part, and training ends at the minimum of the
objective with these weights. The paper has no weights: set ``train.client_weighting`` to uniform for that. A client
that can take no local step has no weight.

c is this mean with every aggregator. Near the minimum all updates are alike, so any aggregator ends there; but one that
tolerates attackers guards the updates only, not c.

Source: Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", algorithm 1,
https://arxiv.org/abs/1910.06378.
"""

from typing import Any, Literal

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import GradientAt
from fedpipe.learning.optimizers import accumulated_steps
from fedpipe.learning.schedules import rate_in_graph
from fedpipe.learning.task import Task

ALL_WEIGHTS = True


class Params(Section):
    """``option``: how a client's control variate is computed, as numbered in the paper."""

    option: Literal[1, 2] = 2


def check(settings: Train) -> None:
    """Raises ValueError for client optimizers whose steps do not add up gradients."""
    if settings.client_optimizer.name != "sgd":
        raise ValueError(
            "'train.algorithm' scaffold takes mean gradients from the steps of SGD, and 'train.client_optimizer.name' "
            f"is {settings.client_optimizer.name}: set it to sgd, or choose fed_avg"
        )
    if settings.client_optimizer.clip_norm and settings.params_of("algorithm").option == 2:
        raise ValueError(
            "'train.algorithm' scaffold takes mean gradients from the steps, which 'train.client_optimizer.clip_norm' "
            "makes shorter: set it to 0.0, or 'train.scaffold.option' to 1"
        )


def cost(settings: Train) -> Cost:
    """Local steps, and with option 1 the gradient of all samples."""
    return Cost(settings.local_epochs, 1 if settings.params_of("algorithm").option == 1 else 0)


def server_init(task: Task) -> list[Any]:
    """c: the server's control variate."""
    return task.zeros()


def client_init(task: Task) -> list[Any]:
    """c_k: a client's control variate before its first round."""
    return task.zeros()


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains with corrected gradients and renews the client's control variate."""
    shift = [c - mine for c, mine in zip(server.state, client.kept, strict=True)]

    def corrected(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        return [g + s for g, s in zip(gradients, shift, strict=True)]

    local = task.train(server.weights, client, corrected)
    if task.algorithm.option == 1:
        renewed, _ = task.full_gradient(server.weights, client)
    else:
        optimizer = task.settings.client_optimizer
        rate = rate_in_graph(optimizer, task.settings.rounds, client.round)
        way = accumulated_steps(optimizer, local.steps) * rate
        renewed = [tf.math.divide_no_nan(u, way) - s for u, s in zip(local.update, shift, strict=True)]
    weight = task.weight(client)
    change = [weight * (new - old) for new, old in zip(renewed, client.kept, strict=True)]
    return Contribution(local.update, weight, local.measurements, sums=change, kept=renewed)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the weights and the server's control variate."""
    state = [c + change / total.all_weights for c, change in zip(server.state, total.sums, strict=True)]
    return task.server_step(server._replace(state=state), total.update)
