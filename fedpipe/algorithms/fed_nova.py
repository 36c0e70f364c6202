"""FedNova: updates are normalised by the clients' numbers of steps before they are averaged.

Client k takes tau_k steps and sends d_k = (w - w_k) / ||a_k||_1, where a_k weighs the gradients of its steps: ones for
SGD, (1 - rho^(tau_k - j + 1)) / (1 - rho) for step j = 1, 2, ... with momentum rho. The server moves along

    w' = w - server_rate x tau_eff x sum_k p_k d_k,   tau_eff = sum_k p_k ||a_k||_1,   p_k = n_k / sum n

Source: Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
equation 6 and section 4, https://arxiv.org/abs/2007.07481.
"""

from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import step_count
from fedpipe.learning.optimizers import accumulated_steps
from fedpipe.learning.task import Task


def check(settings: Train) -> None:
    """Raises ValueError for client optimizers whose steps the paper does not weigh."""
    if settings.client_optimizer.name != "sgd":
        raise ValueError(
            f"'train.algorithm' fed_nova weighs the steps of SGD only, and 'train.client_optimizer.name' is "
            f"{settings.client_optimizer.name}: set it to sgd, or choose fed_avg"
        )


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains on the client's samples and normalises the update."""
    local = task.train(server.weights, client)
    length = accumulated_steps(task.settings.client_optimizer, local.steps)
    normalised = [tf.math.divide_no_nan(u, length) for u in local.update]
    return Contribution(normalised, task.weight(client), local.measurements, means=length)


def sendable(task: Task, client: Client, honest: Contribution, attacked: Contribution) -> Contribution:
    """An attacker's length between 0 and that of all local steps: its number of samples allows no other."""
    steps = tf.cast(step_count(task.settings, client._replace(work=None)), tf.float32)
    longest = accumulated_steps(task.settings.client_optimizer, steps)
    return attacked._replace(means=tf.clip_by_value(attacked.means, 0.0, longest))


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the mean normalised update, as far as the clients went on average."""
    return task.server_step(server, [total.means * d for d in total.update])
