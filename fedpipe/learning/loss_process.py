"""A process that trains nothing: its round measures the loss of each selected client, under given weights.

An engine runs it like a training. Its state is the model's weights and the round's number; its sum is a vector with a
place for every client, to which a client adds its own loss, so that the order of the clients changes no bit. Attackers
measure the samples that they train on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedpipe.lazy import tf, tff
from fedpipe.learning.attacking import Attacking
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Nothing, Server
from fedpipe.learning.measurements import Summed
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.learning.passes import Pass
from fedpipe.learning.process import Process
from fedpipe.learning.structure import Structure, flat
from fedpipe.learning.task import Task
from fedpipe.learning.work_request import WorkRequest


def loss_process(task: Task, clients: ClientReader) -> Process:
    """The process; its one measurement, ``losses``, is float32 [clients], 0 for clients that are not asked."""
    attacking = Attacking(task)
    with tf.Graph().as_default():
        server = Structure(_server(task.zeros(), tf.constant(1)))
        losses = Structure([tf.zeros([task.clients])])
    group_type = tff.TensorType(np.int32, [None, *WorkRequest.spec().shape])

    @tf.function(autograph=False)
    def with_loss_of(packed, total, *leaves):  # type: ignore[no-untyped-def]
        received: Server = server.pack(leaves)
        client, _ = clients.read(WorkRequest.unpack(packed), received.round, Nothing)
        loss = task.loss(received.weights, attacking.samples(client))
        return tf.tensor_scatter_nd_add(total, [[client.id]], [loss])

    @tff.tensorflow.computation
    def initialize():  # type: ignore[no-untyped-def]
        return flat(_server(task.zeros(), tf.constant(1)))

    @tff.tensorflow.computation
    def zero():  # type: ignore[no-untyped-def]
        return (tf.zeros([task.clients]),)

    @tff.tensorflow.computation(server.type)
    def same(state):  # type: ignore[no-untyped-def]
        return tuple(tf.identity(leaf) for leaf in state)

    @tff.tensorflow.computation(server.type, group_type)
    def work(leaves, group):  # type: ignore[no-untyped-def]
        leaves = [tf.identity(leaf) for leaf in leaves]
        _, total = tf.while_loop(
            lambda index, _: index < tf.shape(group)[0],
            lambda index, total: (index + 1, with_loss_of(group[index], total, *leaves)),
            (tf.constant(0), tf.zeros([task.clients])),
            parallel_iterations=1,
        )
        return (total,)

    @tff.tensorflow.computation(losses.type, losses.type)
    def merge(a, b):  # type: ignore[no-untyped-def]
        return (a[0] + b[0],)

    @tff.tensorflow.computation(server.type, losses.type)
    def update(state, total):  # type: ignore[no-untyped-def]
        return tuple(tf.identity(leaf) for leaf in state), (tf.identity(total[0]),)

    @tff.tensorflow.computation(server.type)
    def get_weights(state):  # type: ignore[no-untyped-def]
        return tuple(tf.identity(w) for w in server.pack(state).weights)

    size = sum(int(np.prod(shape)) * 4 for shape in task.network.shapes.values())
    return Process(
        initialize=initialize,
        passes=(Pass(same, work, zero, merge, update, group_type, losses),),
        get_weights=get_weights,
        server=server,
        measurements=Structure({"losses": Summed(tf.TensorSpec([task.clients]))}),
        bytes=ClientBytes(size, 4),
    )


def state_of(weights: Sequence[Any], round_number: Any) -> tuple[Any, ...]:
    """The leaves of the process's state."""
    return flat(_server(weights, round_number))


def _server(weights: Sequence[Any], round_number: Any) -> Server:
    return Server(list(weights), Nothing, Nothing, Nothing, round_number)
