"""Updates under way: in asynchronous training, a client's update may reach the server rounds after its training.

    round r    the client starts: it trains on the model of then, and keeps its message in its file of round r
    round t    the update arrives: the algorithm's `arrival` makes of it what is added up, with its staleness t - r

Each is a work request (work_request.py), and one request is both if t = r. What is measured at a client counts in the
round in which its update arrives.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from fedpipe.contracts.algorithm import Algorithm
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Tensors
from fedpipe.learning.local_training import zero_sums
from fedpipe.learning.measurements import COMPRESSED, Counted, Measurement, Measurements
from fedpipe.learning.task import Task

_HALF = 2**24  # float32 has whole numbers up to here


class Message(NamedTuple):
    """A pending message, as float32, for files hold nothing else."""

    update: Tensors  # the result of the algorithm's `under_way` of the update
    weight: Any
    measurements: "OrderedDict[str, Measurement]"  # whole numbers as two parts


def nothing_sent(task: Task, algorithm: Algorithm) -> Message:
    """Zeros in the structure of a client's message."""
    return Message(algorithm.update_zeros(task), tf.constant(0.0), _as_floats(_measured(task)))


def message_of(
    task: Task, algorithm: Algorithm, seen: Server, sent: Contribution, measurements: Measurements
) -> Message:
    """The message that a client has to send after its training.

    Raises:
      PipelineError: The algorithm's clients send or measure what no file of theirs would hold.
    """
    expected = _measured(task)
    if tf.nest.flatten([sent.means, sent.sums]) or set(measurements) != set(expected):
        raise PipelineError(
            f"fedpipe/algorithms/{task.settings.algorithm}.py is asynchronous, and its clients send more than an "
            f"update, its weight and the measurements {', '.join(expected)}: remove what is beside these"
        )
    update = algorithm.under_way(task, seen, sent.update)
    return Message(update, sent.weight, _as_floats(OrderedDict((name, measurements[name]) for name in expected)))


def arrived(
    task: Task, algorithm: Algorithm, seen: Server, message: Message, client: Client, since: Any
) -> Contribution:
    """The server's summand of a message in the round in which it arrives, the round of ``seen`` and ``client``.

    ``since`` is the round in which the client started, int32.
    """
    staleness = tf.cast(client.round - since, tf.float32)
    update = algorithm.arrival(task, seen, message.update, staleness)
    return Contribution(update, message.weight, _as_they_were(message.measurements, _measured(task)))


def started_or_arrived(trains: Any, train: Callable[[], Message], kept: Message) -> Message:
    """What ``train`` gives if ``trains``, a bool scalar; else the message that the client ``kept``."""
    leaves = tf.cond(trains, lambda: tuple(tf.nest.flatten(train())), lambda: tuple(tf.nest.flatten(kept)))
    message: Message = tf.nest.pack_sequence_as(kept, list(leaves))
    return message


def _measured(task: Task) -> "OrderedDict[str, Measurement]":
    """Zeros for all that is measured at a client."""
    zeros = zero_sums(task.network, task.settings)
    if COMPRESSORS.of(task.settings.compressor).compress is not None:
        zeros[COMPRESSED] = Counted(tf.constant(0, tf.int64))
    return zeros


def _as_floats(measurements: Measurements) -> Any:
    """Whole numbers as two parts, [n // 2^24, n % 2^24]."""

    def parts(value: Any) -> Any:
        if value.dtype.is_floating:
            return value
        return tf.cast(tf.stack([value // _HALF, value % _HALF]), tf.float32)

    return tf.nest.map_structure(parts, measurements)


def _as_they_were(floats: Measurements, like: Measurements) -> Any:
    """The opposite of `_as_floats`, in the types of ``like``."""

    def whole(value: Any, zero: Any) -> Any:
        if zero.dtype.is_floating:
            return value
        high, low = tf.unstack(tf.cast(value, zero.dtype))
        return high * _HALF + low

    return tf.nest.map_structure(whole, floats, like)
