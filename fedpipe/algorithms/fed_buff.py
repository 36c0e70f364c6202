"""FedBuff: clients train asynchronously, and the server steps whenever K updates are in its buffer.

M clients are training at any time, each with the model that the server had when it started. Client k, which started at
w_r, sends w_r - w_k. Once K updates have arrived, the server steps with their mean, each the smaller the more steps s
there were since its client started:

    w' = w - server_rate x sum_k n_k (1 + s)^-exponent (w_r - w_k) / sum_k n_k

with r and s of each client k, and forgets them. A round is a step of the server (fedpipe/runtime/asynchronous.py says
who starts and arrives when). The paper has exponent 0.5 and averages without weights: set ``train.client_weighting`` to
uniform for that. With K = 1 the weights have no effect: clients count as often as they arrive.

Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1 and section 3,
https://arxiv.org/abs/2106.06639.
"""

from typing import Any

from fedpipe.config.section import Concurrency, Count, NotNegative, Section
from fedpipe.contracts.algorithm import Asynchrony
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.task import Task


class Params(Section):
    """``concurrency``: M; ``buffer_size``: K; ``exponent``: how much staleness counts, 0 for not at all."""

    concurrency: Concurrency = "all"
    buffer_size: Count = 10
    exponent: NotNegative = 0.5


def asynchrony(params: Params) -> Asynchrony:
    """Concurrent clients, and updates of a step."""
    return Asynchrony(params.concurrency, params.buffer_size)


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains from the weights of the round in which the client starts."""
    local = task.train(server.weights, client)
    return Contribution(local.update, task.weight(client), local.measurements)


def arrival(task: Task, server: Server, update: list[Any], staleness: Any) -> list[Any]:
    """The weighted update, float32, of a client that started ``staleness`` rounds before."""
    factor = tf.pow(1.0 + staleness, -task.algorithm.exponent)
    return [part * factor for part in update]


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves along the mean of the buffer."""
    return task.server_step(server, total.update)
