"""The work of one client in one pass: read, train, attack, compress, leave out what does not count, encode.

samples -> attack's samples -> algorithm's client_update -> attack's vectors -> compressor -> aggregator's encode

In asynchronous training, what comes before the encoding and the encoding may be in different rounds (under_way.py).
"""

from collections import OrderedDict
from typing import Any, NamedTuple

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.attacking import Attacking
from fedpipe.learning.client_rows import row_of
from fedpipe.learning.clients import ClientReader, Keep
from fedpipe.learning.interface import Client, Contribution, Nothing, Server, Tensors
from fedpipe.learning.measurements import (
    CLIPPED,
    COMPRESSED,
    READ,
    SILENT,
    WORK,
    Counted,
    MeanPerClient,
    Measurement,
    Summed,
    checked,
    joined,
)
from fedpipe.learning.task import ClientUpdate, Task
from fedpipe.learning.under_way import Message, arrived, message_of, nothing_sent, started_or_arrived
from fedpipe.learning.vectors import norm
from fedpipe.learning.work_request import WorkRequest

MEASURED = ("loss", "accuracy", "seen")  # by every algorithm


class Accumulator(NamedTuple):
    """The accumulator, carried from client to client: sums; the aggregator merges ``update``, and rows are stacked."""

    update: Tensors
    weight: Any
    means: Tensors
    sums: Tensors
    measurements: "OrderedDict[str, Measurement]"
    rows: Tensors = Nothing  # with `train.client_rounds`, a row for each client (client_rows.py)


class Kept(NamedTuple):
    """A client's state from round to round."""

    algorithm: Tensors
    compressor: Tensors
    message: Tensors = Nothing  # in asynchronous training, its pending message


class ClientWork:
    """The work of a client, composed of the files that the params choose."""

    def __init__(
        self, task: Task, algorithm: Algorithm, aggregator: Aggregator, clients: ClientReader, later: int = 0
    ) -> None:
        """``later``: how many passes of the round follow. After the last one clients keep what they keep."""
        self._task, self._algorithm, self._aggregator, self._clients = task, algorithm, aggregator, clients
        self._later, self._is_last = later, later == 0
        self._compressor = COMPRESSORS.of(task.settings.compressor)
        self._attacking = Attacking(task)
        self._file = f"fedpipe/algorithms/{task.settings.algorithm}.py"  # for errors
        self.compressed_bytes: int | None = 0  # of a client's update; None if they differ. Known after `contribute`.

    def contribute(self, client_update: ClientUpdate, seen: Server, request: WorkRequest) -> Accumulator:
        """What one client adds to the accumulator; ``seen``: what clients see of the server."""
        task = self._task
        first = first_kept(task, self._algorithm)
        begin = tf.timestamp()
        with tf.control_dependencies([begin]):
            client, keep = self._clients.read(request, seen.round, first)
        with tf.control_dependencies([client.images, client.labels]):
            read = tf.timestamp()
        with tf.control_dependencies([read]):
            client = client._replace(images=tf.identity(client.images), labels=tf.identity(client.labels))
        kept = client.kept if client.kept is not Nothing else first
        client = client._replace(kept=kept.algorithm)
        if self._algorithm.is_asynchronous:
            sent, measurements = self._started_or_arrived(client_update, seen, request, client, kept, keep)
        else:
            client, sent, residual, sent_bytes, finite = self._trained(client_update, seen, client, kept)
            counts = tf.logical_and(finite, task.takes_part(client))
            with tf.control_dependencies(keep(Kept(sent.kept, residual), counts) if self._is_last else []):
                sent = _leave_out(sent, counts)
            measurements = self._measurements(sent, client, finite, counts)
            if sent_bytes is not None:
                silent = measurements[SILENT].total > 0
                measurements[COMPRESSED] = Counted(
                    tf.where(silent, tf.constant(0, tf.int64), tf.cast(sent_bytes, tf.int64))
                )
        if self._aggregator.clip_norm is not None:
            is_longer = norm(sent.update) > self._aggregator.clip_norm(task, seen.aggregator)
            measurements[CLIPPED] = MeanPerClient(tf.cast(is_longer, tf.float32))
        with tf.control_dependencies(tf.nest.flatten([sent.update, sent.weight])):
            end = tf.timestamp()
        rows: Tensors = Nothing
        if task.settings.client_rounds and self._is_last:
            rows = row_of(task.settings, sent, client, measurements)
            if self._algorithm.is_asynchronous:
                rows = tf.repeat(rows, tf.cast(request.reports, tf.int32), axis=0)
        measurements[READ], measurements[WORK] = Summed(read - begin), Summed(end - read)
        return Accumulator(
            update=self._aggregator.encode(task, seen.aggregator, sent.update, sent.weight, client),
            weight=sent.weight,
            means=tf.nest.map_structure(lambda t: t * sent.weight, sent.means),
            sums=sent.sums,
            measurements=measurements,
            rows=rows,
        )

    def _trained(
        self, client_update: ClientUpdate, seen: Server, client: Client, kept: Kept
    ) -> tuple[Client, Contribution, Tensors, Any, Any]:
        """Trains: the client as it did, what it sends, its new residual, its bytes, and whether all is finite."""
        client = self._attacking.samples(client)
        honest = client_update(self._task, seen, client)
        checked(honest.measurements, self._file, MEASURED if self._is_last else ())
        self._require_what_the_algorithm_says(honest)
        exact = self._attacking.contribution(self._algorithm, seen, client, honest, self._later)
        sent, residual, sent_bytes = self._compressed(exact, client, kept.compressor)
        # Of values that are not finite, a compressor may send finite ones.
        finite = _finite(sent) if sent is exact else tf.logical_and(_finite(exact), _finite(sent))
        return client, sent, residual, sent_bytes, finite

    def _started_or_arrived(
        self, client_update: ClientUpdate, seen: Server, request: WorkRequest, client: Client, kept: Kept, keep: Keep
    ) -> tuple[Contribution, "OrderedDict[str, Measurement]"]:
        """What arrives at the server from a client that starts in this round, or started earlier; zeros if nothing."""
        task, algorithm = self._task, self._algorithm
        trains, reports = request.trains, request.reports

        def train() -> Message:
            _, sent, residual, sent_bytes, finite = self._trained(client_update, seen, client, kept)
            more = {} if sent_bytes is None else {COMPRESSED: Counted(tf.cast(sent_bytes, tf.int64))}
            # The weight marks values that are not finite, for a compressor may have made them finite.
            sent = sent._replace(weight=tf.where(finite, sent.weight, float("nan")))
            message = message_of(task, algorithm, seen, sent, {**sent.measurements, **more})
            own, rest = tf.nest.map_structure(
                lambda new, old: tf.where(finite, new, old), (sent.kept, residual), (kept.algorithm, kept.compressor)
            )
            with tf.control_dependencies(keep(Kept(own, rest, message), True)):
                return tf.nest.map_structure(tf.identity, message)

        message = started_or_arrived(trains, train, kept.message)
        exact = arrived(task, algorithm, seen, message, client, tf.where(trains, client.round, request.last_round))
        finite = _finite(exact)
        counts = tf.logical_and(reports, finite)
        sent = _leave_out(exact, counts)
        measurements = self._measurements(sent, client, counts, counts)
        measurements["non_finite"] = Counted(tf.cast(tf.logical_and(reports, tf.logical_not(finite)), tf.int32))
        if COMPRESSED in measurements:
            sent_bytes = exact.measurements[COMPRESSED].total
            measurements[COMPRESSED] = Counted(tf.where(reports, sent_bytes, 0))
        return sent, measurements

    def _require_what_the_algorithm_says(self, sent: Contribution) -> None:
        """Raises PipelineError if clients send more than an update though the algorithm's file says ONE_MESSAGE."""
        if self._algorithm.ONE_MESSAGE and tf.nest.flatten([sent.means, sent.sums]):
            raise PipelineError(
                f"{self._file} says ONE_MESSAGE, and its clients send means or sums besides the update; remove one of "
                "the two"
            )

    def _measurements(
        self, sent: Contribution, client: Client, finite: Any, counts: Any
    ) -> "OrderedDict[str, Measurement]":
        """The client's measurements, and the numbers that every round has."""
        # With privacy, all clients of a cohort send something, or it would show who took no step.
        silent = tf.logical_and(finite, tf.logical_not(counts))
        silent = tf.logical_and(silent, not self._aggregator.is_private)
        numbers = OrderedDict(
            clients=Counted(tf.cast(counts, tf.int32)),
            examples=Counted(tf.shape(client.labels, out_type=tf.int64)[0] * tf.cast(counts, tf.int64)),
            non_finite=Counted(1 - tf.cast(finite, tf.int32)),
        )
        numbers[SILENT] = Counted(tf.cast(silent, tf.int32))
        return joined(self._file, numbers, sent.measurements)

    def _compressed(self, sent: Contribution, client: Client, residual: Tensors) -> tuple[Contribution, Tensors, Any]:
        """The contribution as the server decodes it, the client's new residual, and its bytes; None if uncompressed.

        Of several passes in a round only the last one is compressed.
        """
        if not self._is_last or self._compressor.compress is None:
            return sent, residual, None
        update, residual, size = self._compressor.compress(self._task, sent.update, client, residual)
        known = tf.get_static_value(size)
        self.compressed_bytes = None if known is None else int(known)
        return sent._replace(update=update), residual, size


def first_kept(task: Task, algorithm: Algorithm) -> Kept:
    """A client's state before its first round. A residual has the shapes of the algorithm's message."""
    compressor = COMPRESSORS.of(task.settings.compressor)
    residual: Tensors = Nothing
    if compressor.client_init is not None:
        residual = compressor.client_init(task, algorithm.update_zeros(task))
    message = nothing_sent(task, algorithm) if algorithm.is_asynchronous else Nothing
    return Kept(Nothing if algorithm.client_init is None else algorithm.client_init(task), residual, message)


def keeps_state(task: Task, algorithm: Algorithm) -> bool:
    """Whether clients keep something from round to round."""
    return algorithm.keeps_files or COMPRESSORS.of(task.settings.compressor).keeps_files


def _finite(sent: Contribution) -> Any:
    """Whether all that a client sends is finite, as a bool scalar."""
    # One reduction per tensor: a sum is finite only if no term is NaN or infinite, and clients' updates are far from
    # the sizes at which finite terms overflow.
    parts = [*tf.nest.flatten(sent.update), *tf.nest.flatten(sent.means), *tf.nest.flatten(sent.sums), sent.weight]
    parts += [value for value in tf.nest.flatten(sent.measurements) if value.dtype.is_floating]
    return tf.reduce_all([tf.math.is_finite(tf.reduce_sum(tf.abs(part))) for part in parts])


def _leave_out(sent: Contribution, counts: Any) -> Contribution:
    """Zeroes everything that a client sends unless it ``counts``, a bool scalar."""

    def zeroed(value: Any) -> Any:
        return tf.where(counts, value, tf.zeros_like(value))

    return tf.nest.map_structure(zeroed, sent._replace(kept=Nothing))
