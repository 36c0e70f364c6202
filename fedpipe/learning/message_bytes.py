"""Bytes that a device would get and send in a round, from the tensors of the messages.

Weights of clients and figures for the tables are not counted. Where a device would send less than the tensors of the
simulation, the file of the algorithm or aggregator says how much: `message_bytes`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.learning.client_work import Accumulator
from fedpipe.learning.interface import MessageBytes
from fedpipe.learning.measurements import COMPRESSED
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import bytes_of


class ClientBytes(NamedTuple):
    """Bytes to and from a client in one round."""

    down: int
    up: int  # without a compressed update
    compressed: int | None = 0  # of a compressed update; None if they differ between clients


class Sent(NamedTuple):
    """Bytes of a pass, to and from a client."""

    seen: int  # the weights and the algorithm's state
    of_aggregator: int  # the aggregator's state
    update: int | None  # None where it is measured by its compressor
    besides: int  # means and sums
    compressed: int | None  # what its compressor says, 0 without one; None if that differs from client to client


def update_bytes(task: Task, aggregator: Aggregator, one: Accumulator) -> int | None:
    """Bytes of an update: those of the tensors that go to the aggregator, or what its file says."""
    if COMPRESSED in one.measurements:
        return None
    if aggregator.message_bytes is not None:
        return aggregator.message_bytes(task, one.update)
    return bytes_of(one.update)


def round_bytes(task: Task, algorithm: Algorithm, passes: Sequence[Sent]) -> ClientBytes:
    """The bytes of a round, as the algorithm's file or else the tensors say; only the last pass is compressed."""
    told = MessageBytes() if algorithm.message_bytes is None else algorithm.message_bytes(task)
    updates = [one.update for one in passes if one.update is not None]
    down = sum(one.seen for one in passes) if told.down is None else told.down
    update = told.update if told.update is not None and len(updates) == len(passes) else sum(updates)
    besides = sum(one.besides for one in passes) if told.besides is None else told.besides
    return ClientBytes(down + sum(one.of_aggregator for one in passes), update + besides, passes[-1].compressed)
