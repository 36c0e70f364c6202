"""From an algorithm, an aggregator and a model to computations of TFF, and to a `tff.learning` process made of them.

A client of TFF is here a group of clients: their ids go in, one accumulator comes out. Inside, a while loop takes the
clients one after the other, so that TFF's own cost of a client (about 1 ms) is paid once per group; algorithms and
aggregators still see single clients. Structures are flattened to tuples of tensors at the border to TFF.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.lazy import tf, tff
from fedpipe.learning.client_work import Accumulator, ClientUpdate, ClientWork
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Nothing, Server, Total
from fedpipe.learning.message_bytes import Sent, round_bytes, update_bytes
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import bytes_of
from fedpipe.networks.network import Weights

ServerUpdate = Callable[[Task, Server, Total], Server]
LEFT_OUT = "left_out"  # a measurement of the server's: clients of the round whose update the aggregator did not use


class Layout:
    """A structure of tensors, and the tuple of its leaves that TFF gets in its place."""

    def __init__(self, structure: Any) -> None:
        """``structure``: tensors or specs in any nesting of tuples, lists and dicts."""
        self.specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), structure)
        leaves = tf.nest.flatten(self.specs)
        types = [tff.TensorType(leaf.dtype.as_numpy_dtype, leaf.shape) for leaf in leaves]
        self.type = tff.StructWithPythonType(types, tuple)

    def pack(self, leaves: Sequence[Any]) -> Any:
        """The structure with ``leaves``."""
        return tf.nest.pack_sequence_as(self.specs, list(leaves))

    @property
    def signature(self) -> list[tf.TensorSpec]:
        """The leaves' specs."""
        return tf.nest.flatten(self.specs)


def flat(structure: Any) -> tuple[Any, ...]:
    """The leaves of a structure."""
    return tuple(tf.nest.flatten(structure))


@dataclass(frozen=True)
class Pass:
    """One way down to the clients and up again, as TFF computations. A round has one, or several in turn."""

    prepare: tff.Computation  # server -> message
    work: tff.Computation  # (message, ids int32 [group, ...]) -> accumulator
    zero: tff.Computation  # -> accumulator
    merge: tff.Computation  # (accumulator, accumulator) -> accumulator
    update: tff.Computation  # (server, accumulator) -> (server, measurements)
    ids_type: tff.Type


@dataclass(frozen=True)
class Process:
    """A whole training: its start, its passes, and how to look into the state."""

    initialize: tff.Computation  # -> server
    passes: tuple[Pass, ...]
    get_weights: tff.Computation  # server -> weights
    server: Layout
    measurements: tuple[str, ...]  # names, in the order of the last pass's measurements
    bytes_down: int  # to one client in one round
    bytes_up: int  # from one client in one round, without a compressed update
    compressed_bytes: int | None  # of a compressed update, 0 if there is none; None if they differ between clients


def build_process(
    task: Task, algorithm: Algorithm, aggregator: Aggregator, first: Weights, clients: ClientReader
) -> Process:
    """Composes a training.

    Args:
      task: Model and params.
      algorithm: Of `task.settings`, or another one.
      aggregator: Of `task.settings`, or another one.
      first: The weights before the first round.
      clients: How a client's data is read on the worker.
    """

    def start() -> Server:
        weights = [tf.constant(w) for w in first]
        return Server(
            weights=weights,
            optimizer=task.server_optimizer.start(weights),
            state=algorithm.server_init(task),
            aggregator=aggregator.server_init(task),
            round=tf.constant(1),
        )

    with tf.Graph().as_default():
        server = Layout(tf.nest.map_structure(tf.convert_to_tensor, start()))
    steps = algorithm.steps(task)
    built = [
        _build_pass(task, aggregator, clients, server, *step, algorithm=algorithm, last=number == len(steps))
        for number, step in enumerate(steps, 1)
    ]

    @tff.tensorflow.computation
    def initialize():  # type: ignore[no-untyped-def]
        return flat(tf.nest.map_structure(tf.convert_to_tensor, start()))

    @tff.tensorflow.computation(server.type)
    def get_weights(state):  # type: ignore[no-untyped-def]
        return tuple(tf.identity(w) for w in server.pack(state).weights)

    return Process(
        initialize=initialize,
        passes=tuple(one for one, *_ in built),
        get_weights=get_weights,
        server=server,
        measurements=built[-1][1],
        compressed_bytes=built[-1][2].compressed,  # only the last pass is compressed
        **round_bytes(task, algorithm, [sent for _, _, sent in built]),
    )


def learning_process(process: Process) -> tff.learning.templates.LearningProcess:
    """``process`` for TFF's own runtimes, such as ``tff.backends.native.set_sync_local_cpp_execution_context``.

    ``next`` takes the state and, in the place of clients' data, groups of clients: an array int32 [n, ...] per group,
    of what `ClientReader.who` says of each client in it. Its metrics are those of ``process.measurements``, in order.
    `Engine` does the same, faster and without holding the accumulators of all groups.

    Raises:
      ValueError: The algorithm has several passes in a round, which a LearningProcess cannot have.
    """
    if len(process.passes) != 1:
        raise ValueError(f"a LearningProcess has one pass in a round, and this algorithm has {len(process.passes)}")
    (one,) = process.passes
    state_type, accumulator_type = process.server.type, one.zero.type_signature.result
    weights_type = process.get_weights.type_signature.result
    identity = tff.tensorflow.computation(lambda total: total, accumulator_type)

    @tff.federated_computation
    def initialize():  # type: ignore[no-untyped-def]
        return tff.federated_eval(process.initialize, tff.SERVER)

    @tff.federated_computation(tff.FederatedType(state_type, tff.SERVER), tff.FederatedType(one.ids_type, tff.CLIENTS))
    def run_round(state, groups):  # type: ignore[no-untyped-def]
        message = tff.federated_map(one.prepare, state)
        sums = tff.federated_map(one.work, (tff.federated_broadcast(message), groups))
        total = tff.federated_aggregate(sums, one.zero(), one.merge, one.merge, identity)
        after = tff.federated_map(one.update, (state, total))
        return tff.learning.templates.LearningProcessOutput(after[0], after[1])

    @tff.tensorflow.computation(state_type, weights_type)
    def set_weights(state, weights):  # type: ignore[no-untyped-def]
        return flat(process.server.pack(state)._replace(weights=list(weights)))

    return tff.learning.templates.LearningProcess(initialize, run_round, process.get_weights, set_weights)


def _build_pass(
    task: Task,
    aggregator: Aggregator,
    clients: ClientReader,
    server: Layout,
    client_update: ClientUpdate,
    server_update: ServerUpdate,
    *,
    algorithm: Algorithm,
    last: bool,
) -> tuple[Pass, tuple[str, ...], Sent]:
    """A pass, the names of its measurements, and its bytes to and from a client."""

    def shown(state: Server) -> Server:
        """What clients see of the server."""
        own, of_aggregator = algorithm.broadcast(task, state), aggregator.broadcast(task, state.aggregator)
        return state._replace(optimizer=Nothing, state=own, aggregator=of_aggregator)

    with tf.Graph().as_default():
        message = Layout(shown(server.pack([tf.zeros(s.shape, s.dtype) for s in server.signature])))

    work_of_client = ClientWork(task, algorithm, aggregator, clients)

    @tf.function(autograph=False)
    def contribute(who: Any, *leaves: Any) -> Any:
        return work_of_client.contribute(client_update, message.pack(leaves), who, last)

    traced = contribute.get_concrete_function(clients.who, *message.signature)
    one: Accumulator = traced.structured_outputs
    sent = Sent(
        seen=bytes_of([message.specs.weights, message.specs.state]),
        of_aggregator=bytes_of(message.specs.aggregator),
        update=update_bytes(task, aggregator, one),
        besides=bytes_of([one.means, one.sums]),
        compressed=work_of_client.compressed_bytes,
    )
    collects = aggregator.COLLECTS
    if collects:
        stacked = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), one.update)
        one = one._replace(update=stacked)
    accumulator = Layout(one)
    group_type = tff.TensorType(np.int32, [None, *clients.who.shape])

    def none() -> Accumulator:
        def zeros(spec: tf.TensorSpec) -> tf.Tensor:
            made = tf.zeros([side or 0 for side in spec.shape], spec.dtype)
            # No rows yet, of an unknown number: TFF compares static shapes.
            return made if spec.shape.is_fully_defined() else tf.compat.v1.placeholder_with_default(made, spec.shape)

        return accumulator.pack([zeros(spec) for spec in accumulator.signature])

    def merged(a: Accumulator, b: Accumulator) -> Accumulator:
        def stack(x: Any, y: Any) -> Any:
            return tf.concat([x, y], 0)

        join = stack if collects else aggregator.merge
        added = tf.nest.map_structure(tf.add, a[1:], b[1:])
        return Accumulator(tf.nest.map_structure(join, a.update, b.update), *added)

    @tff.tensorflow.computation(server.type)
    def prepare(state):  # type: ignore[no-untyped-def]
        return flat(tf.nest.map_structure(tf.identity, shown(server.pack(state))))

    @tff.tensorflow.computation
    def zero():  # type: ignore[no-untyped-def]
        return flat(none())

    @tff.tensorflow.computation(message.type, group_type)
    def work(leaves, group):  # type: ignore[no-untyped-def]
        leaves = [tf.identity(leaf) for leaf in leaves]
        clients = tf.shape(group)[0]
        # Rows are stacked once the group is whole: stacked one by one, each would copy all before it.
        kinds = tf.nest.flatten(accumulator.specs.update) if collects else []
        arrays = [tf.TensorArray(s.dtype, clients, infer_shape=False, element_shape=s.shape) for s in kinds]

        def body(index: Any, arrays: list[Any], *so_far: Any) -> tuple[Any, ...]:
            before, new = accumulator.pack(so_far), accumulator.pack(flat(traced(group[index], *leaves)))
            if collects:
                arrays = [a.write(index, part) for a, part in zip(arrays, flat(new.update), strict=True)]
                new = new._replace(update=before.update)  # no rows
            added = zip(flat(merged(before, new)), accumulator.signature, strict=True)
            return index + 1, arrays, *(tf.ensure_shape(t, s.shape) for t, s in added)

        _, arrays, *total = tf.while_loop(
            lambda index, *_: index < clients,
            body,
            (tf.constant(0), arrays, *flat(none())),
            shape_invariants=(
                tf.TensorShape([]),
                [tf.TensorShape(None) for _ in arrays],
                *(s.shape for s in accumulator.signature),
            ),
            parallel_iterations=1,
        )
        if collects:
            rows = [tf.ensure_shape(a.concat(), s.shape) for a, s in zip(arrays, kinds, strict=True)]
            stacked = tf.nest.pack_sequence_as(accumulator.specs.update, rows)
            total = list(flat(accumulator.pack(total)._replace(update=stacked)))
        return tuple(total)

    @tff.tensorflow.computation(accumulator.type, accumulator.type)
    def merge(a, b):  # type: ignore[no-untyped-def]
        return flat(merged(accumulator.pack(a), accumulator.pack(b)))

    @tff.tensorflow.computation(server.type, accumulator.type)
    def update(state, total):  # type: ignore[no-untyped-def]
        before: Server = server.pack(state)
        sums: Accumulator = accumulator.pack(total)
        made, kept_by_aggregator = aggregator.finish(task, before.aggregator, sums.update, sums.weight, before.round)
        cohort = Total(
            update=made,
            means=tf.nest.map_structure(lambda t: tf.math.divide_no_nan(t, sums.weight), sums.means),
            sums=sums.sums,
            weight=sums.weight,
            clients=sums.measurements["clients"],
        )
        after = server_update(task, before._replace(aggregator=kept_by_aggregator), cohort)
        after = after._replace(round=before.round + (1 if last else 0))
        measured = OrderedDict(sums.measurements)
        if aggregator.left_out is not None:
            measured[LEFT_OUT] = aggregator.left_out(task, sums.update)
        return flat(tf.nest.map_structure(tf.identity, after)), flat(measured)

    counted = [] if aggregator.left_out is None else [LEFT_OUT]
    names = tuple(sorted([*one.measurements, *counted]))  # the order in which tf.nest flattens
    return Pass(prepare, work, zero, merge, update, group_type), names, sent
