"""A baseline without a federation: the same model on the samples of all clients, as if one owner had them.

A round has as many samples as FedAvg's with the same params: those that the clients of its cohort would see in their
local steps. They come from one sequence through all samples, in a new order drawn from the seed for each pass over
them, and a round resumes where the one before it ended:

    w <- w - client_rate x g(w),   for each batch of the round's samples, of which the last may be smaller

So each sample counts alike, whichever client has it. The client optimizer takes the steps, and its state begins anew in
each round, as it does at clients. The loss of a federation is its difference from this baseline.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3,
compares FedAvg with "standard SGD training on the full training set", https://arxiv.org/abs/1602.05629.
"""

from fedpipe.learning.all_samples import drawn
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
from fedpipe.learning.task import Task

POOLS_SAMPLES = True
BATCH_NORM = "averaged"  # of one model: its own


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains on the round's samples; ``client`` has those of all clients."""
    local = task.train_on(server.weights, client, drawn(task, client))
    return Contribution(local.update, task.weight(client), local.measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Takes the trained weights."""
    return task.server_step(server, total.update)


def message_bytes(task: Task) -> MessageBytes:
    """Nothing is sent."""
    return MessageBytes(down=0, update=0, besides=0)
