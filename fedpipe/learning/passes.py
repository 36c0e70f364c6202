"""A pass of a round as computations of TFF: a message to the clients, their work in groups, its sum, the server's step.

A client of TFF is here a group of clients: their work requests go in, one accumulator comes out. Inside, a while loop
takes the clients one after the other, so that TFF's own cost of a client (about 1 ms) is paid once per group;
algorithms and aggregators still see single clients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.lazy import tf, tff
from fedpipe.learning.client_work import Accumulator, ClientWork
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Nothing, Server, Total
from fedpipe.learning.measurements import CLIENT_ROWS, CLIP_NORM, Measurements, PerClient, Summed, checked, joined
from fedpipe.learning.message_bytes import Sent, update_bytes
from fedpipe.learning.structure import Structure, flat
from fedpipe.learning.sums import Sums
from fedpipe.learning.task import ClientUpdate, ServerUpdate, Task
from fedpipe.learning.vectors import bytes_of
from fedpipe.learning.work_request import WorkRequest


@dataclass(frozen=True)
class Pass:
    """One way down to the clients and up again, as TFF computations. A round has one, or several in turn."""

    prepare: tff.Computation  # server -> message
    work: tff.Computation  # (message, requests int32 [group, ...]) -> accumulator
    zero: tff.Computation  # -> accumulator
    merge: tff.Computation  # (accumulator, accumulator) -> accumulator
    update: tff.Computation  # (server, accumulator) -> (server, measurements)
    group_type: tff.Type  # of the requests to a group
    sums: Structure  # of an accumulator


@dataclass(frozen=True)
class Parts:
    """The parts that all passes of a training share."""

    task: Task
    algorithm: Algorithm
    aggregator: Aggregator
    clients: ClientReader
    server: Structure

    def message(self, state: Server) -> Server:
        """The server's state as clients see it."""
        own = self.algorithm.broadcast(self.task, state)
        of_aggregator = self.aggregator.broadcast(self.task, state.aggregator)
        return state._replace(optimizer=Nothing, state=own, aggregator=of_aggregator)

    def step(
        self, server_update: ServerUpdate, last: bool, before: Server, sums: Accumulator
    ) -> tuple[Server, Measurements]:
        """The server after a pass with the ``sums`` of a cohort, and the measurements of clients and server."""
        task, state = self.task, before.aggregator
        made, kept = self.aggregator.finish(task, state, sums.update, sums.weight, before.round)
        total = Total(
            update=made,
            means=tf.nest.map_structure(lambda t: tf.math.divide_no_nan(t, sums.weight), sums.means),
            sums=sums.sums,
            weight=sums.weight,
            clients=sums.measurements["clients"].total,
            all_weights=task.total_weight(self.clients.sizes),
        )
        after = server_update(task, before._replace(aggregator=kept), total)
        if not self.aggregator.is_private:  # noise that is missing would tell that nobody took part
            pairs = zip(flat(after), flat(before), strict=True)
            after = self.server.pack([tf.where(total.clients > 0, new, old) for new, old in pairs])
        after = after._replace(round=before.round + (1 if last else 0))
        of_aggregator = dict(self.aggregator.server_measurements(task, state, kept, sums.update))
        if self.aggregator.clip_norm is not None:
            of_aggregator[CLIP_NORM] = Summed(tf.convert_to_tensor(self.aggregator.clip_norm(task, state)))
        of_algorithm = self.algorithm.server_measurements(task, before, after, total)
        measured = self._joined("aggregator", sums.measurements, of_aggregator)
        measured = self._joined("algorithm", measured, of_algorithm)
        return after, measured if not flat(sums.rows) else {**measured, CLIENT_ROWS: PerClient(sums.rows)}

    def _joined(self, kind: str, others: Measurements, own: Measurements) -> Measurements:
        """``others`` and those that the server's part of a file made."""
        file = f"fedpipe/{kind}s/{getattr(self.task.settings, kind)}.py"
        return joined(file, others, checked(own, file))


def build_pass(
    parts: Parts, client_update: ClientUpdate, server_update: ServerUpdate, *, later: int
) -> tuple[Pass, Structure, Sent]:
    """A pass, its measurements, and its bytes to and from a client; ``later``: how many passes of the round follow."""
    task, aggregator = parts.task, parts.aggregator
    with tf.Graph().as_default():
        nothing = parts.server.pack([tf.zeros(spec.shape, spec.dtype) for spec in parts.server.signature])
        message = Structure(parts.message(nothing))
    work_of_client = ClientWork(task, parts.algorithm, aggregator, parts.clients, later)

    @tf.function(autograph=False)
    def contribute(packed: Any, *leaves: Any) -> Any:
        return work_of_client.contribute(client_update, message.pack(leaves), WorkRequest.unpack(packed))

    traced = contribute.get_concrete_function(WorkRequest.spec(), *message.signature)
    contribution: Accumulator = traced.structured_outputs
    sent = Sent(
        seen=bytes_of([message.specs.weights, message.specs.state]),
        of_aggregator=bytes_of(message.specs.aggregator),
        update=update_bytes(task, aggregator, contribution),
        besides=bytes_of([contribution.means, contribution.sums]),
        compressed=work_of_client.compressed_bytes,
    )
    sums = Sums(aggregator, contribution)
    zero, merge = _zero_and_merge(sums)
    update, measurements = _update(parts, sums, server_update, last=not later)
    group_type = tff.TensorType(np.int32, [None, *WorkRequest.spec().shape])
    work = _work(message, group_type, sums, traced)
    made = Pass(_prepare(parts), work, zero, merge, update, group_type, sums.structure)
    return made, measurements, sent


def _prepare(parts: Parts) -> tff.Computation:
    @tff.tensorflow.computation(parts.server.type)
    def prepare(state):  # type: ignore[no-untyped-def]
        return flat(tf.nest.map_structure(tf.identity, parts.message(parts.server.pack(state))))

    return prepare


def _work(message: Structure, group_type: tff.Type, sums: Sums, contribute: Callable[..., Any]) -> tff.Computation:
    @tff.tensorflow.computation(message.type, group_type)
    def work(leaves, group):  # type: ignore[no-untyped-def]
        leaves = [tf.identity(leaf) for leaf in leaves]
        return sums.over(tf.shape(group)[0], lambda index: sums.structure.pack(flat(contribute(group[index], *leaves))))

    return work


def _zero_and_merge(sums: Sums) -> tuple[tff.Computation, tff.Computation]:
    kind = sums.structure.type

    @tff.tensorflow.computation
    def zero():  # type: ignore[no-untyped-def]
        return flat(sums.zero())

    @tff.tensorflow.computation(kind, kind)
    def merge(a, b):  # type: ignore[no-untyped-def]
        return flat(sums.merged(sums.structure.pack(a), sums.structure.pack(b)))

    return zero, merge


def _update(parts: Parts, sums: Sums, server_update: ServerUpdate, last: bool) -> tuple[tff.Computation, Structure]:
    """The server's step, and its measurements."""
    measurements: list[Structure] = []  # known once the step is traced

    @tff.tensorflow.computation(parts.server.type, sums.structure.type)
    def update(state, total):  # type: ignore[no-untyped-def]
        before: Server = parts.server.pack(state)
        after, measured = parts.step(server_update, last, before, sums.structure.pack(total))
        measurements.append(Structure(measured))
        return flat(tf.nest.map_structure(tf.identity, after)), flat(measured)

    return update, measurements[0]
