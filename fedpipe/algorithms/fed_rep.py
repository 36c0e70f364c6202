"""FedRep: clients share all layers but the last ones; each trains its own head first, and then the shared layers.

    client k:  ``head_epochs`` over its samples for its head h_k, the base w fixed;
               ``train.local_epochs`` for the base, h_k fixed;  sends w - w_k;  keeps h_k
    server:    w' = w - server_rate x sum_k n_k (w - w_k) / sum_k n_k

h_k is the head of the first weights before the client's first round. The global model has that untrained head, so its
accuracy on the test images says little. `personal` gives the model that a client uses.

Source: Collins et al. 2021, "Exploiting Shared Representations for Personalized Federated Learning", algorithm 1,
https://arxiv.org/abs/2102.07078.
"""

from dataclasses import replace
from typing import Any

from fedpipe.config.section import Count, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import GradientAt
from fedpipe.learning.personal_layers import base_size
from fedpipe.learning.personal_layers import client_init as client_init
from fedpipe.learning.personal_layers import message_bytes as message_bytes
from fedpipe.learning.personal_layers import personal as personal
from fedpipe.learning.personal_layers import update_zeros as update_zeros
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides


class Params(Section):
    """``layers``: how many of the last layers are personal; ``head_epochs``: of training them, in each round."""

    layers: Count = 1
    head_epochs: Count = 5


def check(settings: Train) -> None:
    """Raises ValueError for weight decay, which would move the layers that are fixed."""
    if settings.client_optimizer.weight_decay:
        raise ValueError(
            "'train.algorithm' fed_rep trains some layers while the others are fixed, and weight decay moves all: set "
            "'train.client_optimizer.weight_decay' to 0.0"
        )


def cost(settings: Train) -> Cost:
    """Local steps for the head and for the base, each as one for all layers though a device could save a part."""
    return Cost(settings.params_of("algorithm").head_epochs + settings.local_epochs)


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains the head, then the base; sends the base and keeps the head."""
    base = base_size(task)

    def head_only(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        return [tf.zeros_like(g) for g in gradients[:base]] + gradients[base:]

    def base_only(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        return gradients[:base] + [tf.zeros_like(g) for g in gradients[base:]]

    longer = task.settings.model_copy(update={"local_epochs": task.algorithm.head_epochs, "local_steps": None})
    with_head = replace(task, settings=longer).train(personal(task, server, client), client, head_only)
    local = task.train(with_head.weights, client, base_only)
    kept = tf.constant(1.0), with_head.weights[base:]
    return Contribution(local.update[:base], task.weight(client), local.measurements, kept=kept)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the base along the mean update."""
    still = [tf.zeros_like(w) for w in server.weights[base_size(task) :]]
    return task.server_step(server, [*total.update, *still])
