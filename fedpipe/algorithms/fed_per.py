"""FedPer: the last layers are personal; each client trains and keeps its own, and never sends them.

    client k:  trains (base w, its own head h_k) together;  sends w - w_k;  keeps h_k
    server:    w' = w - server_rate x sum_k n_k (w - w_k) / sum_k n_k

h_k is the head of the first weights before the client's first round. The global model has that untrained head, so its
accuracy on the test images says little. `personal` gives the model that a client uses.

Source: Arivazhagan et al. 2019, "Federated Learning with Personalization Layers", algorithms 1 and 2,
https://arxiv.org/abs/1912.00818.
"""

from fedpipe.config.section import Count, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.personal_layers import base_size
from fedpipe.learning.personal_layers import client_init as client_init
from fedpipe.learning.personal_layers import message_bytes as message_bytes
from fedpipe.learning.personal_layers import personal as personal
from fedpipe.learning.personal_layers import update_zeros as update_zeros
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides
BATCH_NORM = "averaged"


class Params(Section):
    """``layers``: how many of the last layers are personal."""

    layers: Count = 1


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
