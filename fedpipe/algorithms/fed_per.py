"""FedPer: the last layers are personal; each client trains and keeps its own, and never sends them.

    client k:  trains (base w, its own head h_k) together;  sends w - w_k;  keeps h_k
    server:    w' = w - server_rate x sum_k n_k (w - w_k) / sum_k n_k

h_k is the head of the first weights before the client's first round. The global model has that untrained head, so its
accuracy on the test images says little. `personal` gives the model that a client uses.

Source: Arivazhagan et al. 2019, "Federated Learning with Personalization Layers", algorithms 1 and 2,
https://arxiv.org/abs/1912.00818.
"""

from typing import Any

from fedpipe.config.section import Count, Section
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.task import Task


class Params(Section):
    """``layers``: how many of the last layers are personal."""

    layers: Count = 1


def base_size(task: Task) -> int:
    """How many of the model's weights, in order, are not personal."""
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in task.network.shapes))
    if task.algorithm.layers >= len(layers):
        raise PipelineError(
            f"params.yaml: 'train.fed_per.layers' is {task.algorithm.layers}, and the model has {len(layers)} layers "
            "with weights: give a smaller number, so that one of them is shared"
        )
    own = layers[-task.algorithm.layers :]
    return sum(name.rpartition("/")[0] not in own for name in task.network.shapes)


def client_init(task: Task) -> tuple[Any, list[Any]]:
    """Whether the client has a head (1.0), and the head."""
    return tf.constant(0.0), task.zeros()[base_size(task) :]


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The global base with the client's own head."""
    base = base_size(task)
    started, own = client.kept
    head = [tf.where(started > 0, mine, w) for mine, w in zip(own, server.weights[base:], strict=True)]
    return [*server.weights[:base], *head]


def update_zeros(task: Task) -> list[Any]:
    """Zeros in the shapes of what a client sends."""
    return task.zeros()[: base_size(task)]


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains all layers; sends the base and keeps the head."""
    base = base_size(task)
    local = task.train(personal(task, server, client), client)
    kept = tf.constant(1.0), local.weights[base:]
    return Contribution(local.update[:base], task.weight(client), local.measurements, kept=kept)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves the base along the mean update."""
    still = [tf.zeros_like(w) for w in server.weights[base_size(task) :]]
    return task.server_step(server, [*total.update, *still])
