"""From an algorithm, an aggregator and a model to computations of TFF, and to a `tff.learning` process made of them."""

from dataclasses import dataclass

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.lazy import tf, tff
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Server
from fedpipe.learning.message_bytes import ClientBytes, round_bytes
from fedpipe.learning.passes import Parts, Pass, build_pass
from fedpipe.learning.structure import Structure, flat
from fedpipe.learning.task import Task
from fedpipe.networks.network import Weights


@dataclass(frozen=True)
class Process:
    """A whole training: its start, its passes, and how to look into the state."""

    initialize: tff.Computation  # -> server
    passes: tuple[Pass, ...]
    get_weights: tff.Computation  # server -> weights
    server: Structure
    measurements: Structure  # of the last pass's measurements, by name
    bytes: ClientBytes


def build_process(
    task: Task, algorithm: Algorithm, aggregator: Aggregator, first: Weights, clients: ClientReader
) -> Process:
    """Composes a training; ``first``: the weights before the first round."""

    def start() -> Server:
        weights = [tf.constant(w) for w in first]
        return Server(
            weights=weights,
            optimizer=task.server_optimizer.start(task.network.trained(weights)),
            state=algorithm.server_init(task),
            aggregator=aggregator.server_init(task),
            round=tf.constant(1),
        )

    with tf.Graph().as_default():
        server = Structure(tf.nest.map_structure(tf.convert_to_tensor, start()))
    steps = algorithm.steps(task)
    parts = Parts(task, algorithm, aggregator, clients, server)
    built = [build_pass(parts, *step, later=len(steps) - number) for number, step in enumerate(steps, 1)]

    @tff.tensorflow.computation
    def initialize():  # type: ignore[no-untyped-def]
        return flat(tf.nest.map_structure(tf.convert_to_tensor, start()))

    @tff.tensorflow.computation(server.type)
    def get_weights(state):  # type: ignore[no-untyped-def]
        return tuple(tf.identity(w) for w in server.pack(state).weights)

    return Process(
        initialize=initialize,
        passes=tuple(each for each, *_ in built),
        get_weights=get_weights,
        server=server,
        measurements=built[-1][1],
        bytes=round_bytes(task, algorithm, [sent for _, _, sent in built]),
    )


def learning_process(process: Process) -> tff.learning.templates.LearningProcess:
    """``process`` for TFF's own runtimes, such as ``tff.backends.native.set_sync_local_cpp_execution_context``.

    ``next`` takes the state and, in the place of clients' data, groups of clients: for each group the work requests of
    its clients, packed. Its metrics are the leaves of ``process.measurements``, in order.
    `Engine` does the same, faster and without holding the accumulators of all groups.

    Raises:
      ValueError: The algorithm has several passes in a round, which a LearningProcess cannot have.
    """
    if len(process.passes) != 1:
        raise ValueError(f"a LearningProcess has one pass in a round, and this algorithm has {len(process.passes)}")
    (single,) = process.passes
    state_type, accumulator_type = process.server.type, single.zero.type_signature.result
    weights_type = process.get_weights.type_signature.result
    identity = tff.tensorflow.computation(lambda total: total, accumulator_type)

    @tff.federated_computation
    def initialize():  # type: ignore[no-untyped-def]
        return tff.federated_eval(process.initialize, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER), tff.FederatedType(single.group_type, tff.CLIENTS)
    )
    def run_round(state, groups):  # type: ignore[no-untyped-def]
        message = tff.federated_map(single.prepare, state)
        sums = tff.federated_map(single.work, (tff.federated_broadcast(message), groups))
        total = tff.federated_aggregate(sums, single.zero(), single.merge, single.merge, identity)
        after = tff.federated_map(single.update, (state, total))
        return tff.learning.templates.LearningProcessOutput(after[0], after[1])

    @tff.tensorflow.computation(state_type, weights_type)
    def set_weights(state, weights):  # type: ignore[no-untyped-def]
        return flat(process.server.pack(state)._replace(weights=list(weights)))

    return tff.learning.templates.LearningProcess(initialize, run_round, process.get_weights, set_weights)
