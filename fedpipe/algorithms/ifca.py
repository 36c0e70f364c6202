"""IFCA: several models, each trained by the clients that it fits best.

The server keeps ``clusters`` models, with first weights of their own. A client measures the mean loss of its samples
under each, takes the model j with the lowest loss, trains it to w_k, and sends w_j - w_k. Each model moves along the
mean over its own clients:

    w_j' = w_j - server_rate x sum_k n_k (w_j - w_k) / sum_k n_k,   over the clients k that took model j

metrics/rounds.csv gets columns cluster_0, cluster_1, ...: the share of the examples that trained each model; and
cluster_0_clients, ...: how many clients of the round trained it. A client's personal model is that with the lowest loss
on its samples. The global model, for the test images, is the model that trained on the most examples in the last round.

Source: Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning", algorithm 1, option II (model
averaging), https://arxiv.org/abs/2006.04088.
"""

from collections import OrderedDict
from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.cost import FORWARD, Cost
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Total
from fedpipe.learning.measurements import Counted, MeanPerExample
from fedpipe.learning.schedules import rate_in_graph
from fedpipe.learning.task import Task
from fedpipe.seeds import Purpose, generator


class Params(Section):
    """``clusters``: how many models."""

    clusters: Annotated[int, Field(ge=1, le=100)] = 2


def check(settings: Train) -> None:
    """Raises ValueError for server optimizers with a state, other aggregators, compressors, and one first model."""
    optimizer = settings.server_optimizer
    if optimizer.name != "sgd" or optimizer.momentum:
        raise ValueError(
            "'train.algorithm' ifca moves each model by plain averaging: set 'train.server_optimizer.name' to sgd and "
            "'train.server_optimizer.momentum' to 0.0"
        )
    if settings.aggregator != "mean":
        raise ValueError("'train.algorithm' ifca needs the sums of each cluster: set 'train.aggregator' to mean")
    if settings.compressor != "no_compression":
        raise ValueError(
            "'train.algorithm' ifca sends the update of one model of several, and a compressor would mix them: set "
            "'train.compressor' to no_compression"
        )
    if settings.init != "fresh":
        raise ValueError("'train.algorithm' ifca starts from several models: set 'train.init' to fresh")


def cost(settings: Train) -> Cost:
    """Local steps, and the loss of each model."""
    return Cost(settings.local_epochs, settings.params_of("algorithm").clusters * FORWARD)


def server_init(task: Task) -> list[Any]:
    """The models: for each of the weights one tensor [clusters, ...]."""
    purpose = Purpose.CLUSTERS
    models = [
        task.network.first_weights(generator(task.settings.seed, purpose, client=cluster))
        for cluster in range(task.algorithm.clusters)
    ]
    return [tf.stack([tf.constant(part) for part in parts]) for parts in zip(*models, strict=True)]


def cluster(task: Task, server: Server, client: Client) -> Any:
    """The model with the lowest loss on the client's samples, int32; the first of equals."""
    losses = [task.loss([part[j] for part in server.state], client) for j in range(task.algorithm.clusters)]
    return tf.argmin(tf.stack(losses), output_type=tf.int32)


def personal(task: Task, server: Server, client: Client) -> list[Any]:
    """The model of the client's cluster."""
    chosen = cluster(task, server, client)
    return [tf.gather(part, chosen) for part in server.state]


def update_zeros(task: Task) -> list[Any]:
    """Zeros in the shapes of a client's message."""
    return [tf.zeros([task.algorithm.clusters, *shape]) for shape in task.network.shapes.values()]


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains the model that fits best; the update of the others is 0."""
    clusters, chosen = task.algorithm.clusters, cluster(task, server, client)
    local = task.train([tf.gather(part, chosen) for part in server.state], client)
    mine = tf.one_hot(chosen, clusters)
    update = [tf.reshape(mine, [-1] + [1] * len(u.shape)) * u for u in local.update]
    seen = tf.cast(local.measurements["seen"].total, tf.float32)
    shares = {f"cluster_{j}": MeanPerExample(mine[j] * seen) for j in range(clusters)}
    sizes = {f"cluster_{j}_clients": Counted(tf.cast(mine[j], tf.int32)) for j in range(clusters)}
    measured, weight = OrderedDict(local.measurements, **shares, **sizes), task.weight(client)
    return Contribution(update, weight, measured, sums=(mine * weight, mine * seen))


def sendable(task: Task, client: Client, honest: Contribution, attacked: Contribution) -> Contribution:
    """What a device can send of an attacked contribution: the update of one model, that of its cluster."""
    mine = honest.sums[0] > 0
    update = [tf.where(tf.reshape(mine, [-1] + [1] * (len(u.shape) - 1)), u, 0.0) for u in attacked.update]
    return attacked._replace(update=update)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Moves each model along the mean update of its clients."""
    weights, seen = total.sums
    rate = rate_in_graph(task.settings.server_optimizer, task.settings.rounds, server.round)
    factors = tf.math.divide_no_nan(rate * total.weight, weights)
    state = [
        part - tf.reshape(factors, [-1] + [1] * (len(part.shape) - 1)) * u
        for part, u in zip(server.state, total.update, strict=True)
    ]
    most = tf.argmax(seen, output_type=tf.int32)
    return server._replace(state=state, weights=[tf.gather(part, most) for part in state])


def message_bytes(task: Task) -> MessageBytes:
    """A device gets the models, and sends the update of one of them and its number."""
    parameters = task.network.parameters
    return MessageBytes(down=4 * parameters * task.algorithm.clusters, update=4 * parameters, besides=4)
