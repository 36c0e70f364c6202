"""Federated averaging (FedAvg).

Each client k of the cohort trains from the global weights w on its own samples and sends w - w_k; the server moves
along the mean of these, weighted with the clients' numbers of samples n_k:

    w' = w - server_rate x sum_k n_k (w - w_k) / sum_k n_k

With a server optimizer other than SGD at rate 1, it is FedOpt (Reddi et al. 2021, algorithm 1).

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", algorithm 1,
https://arxiv.org/abs/1602.05629.
"""

from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides
BATCH_NORM = "averaged"


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains on the client's samples."""
    local = task.train(server.weights, client)
    return Contribution(local.update, task.weight(client), local.measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the mean update."""
    return task.server_step(server, total.update)
