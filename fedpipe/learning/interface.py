"""The types that algorithms and aggregators exchange with their process (docs/extending.md shows both whole)."""

from typing import Any, NamedTuple

from fedpipe.learning.measurements import Measurements

Tensors = Any  # a tensor, or lists, tuples and dicts of tensors
Nothing: tuple[()] = ()


class Server(NamedTuple):
    """The server's state between two rounds."""

    weights: list[Any]  # of the global model, float32
    optimizer: Tensors  # state of the server optimizer
    state: Tensors  # the algorithm's own
    aggregator: Tensors  # the aggregator's own
    round: Any  # int32: 1 in the first round


class Client(NamedTuple):
    """A client's data in a round. Randomness comes from `fedpipe.learning.randomness` with its ``id`` and ``round``."""

    images: Any  # uint8 [n, height, width, channels]
    labels: Any  # uint8 [n]
    id: Any  # int32
    round: Any  # int32
    kept: Tensors = Nothing  # the algorithm's client state of its last round, or its `client_init`
    work: Any = None  # int32: how much of its local steps it takes, in thousandths, rounded up; None for all


class Contribution(NamedTuple):
    """A client's message, and its state.

    The server gets ``update`` through the aggregator, the weighted mean of ``means`` and the sums of ``sums``. Of a
    client that takes no local step, or whose contribution is not finite, everything is replaced with zeros and
    ``kept`` is not renewed.
    """

    update: Tensors  # float32
    weight: Any  # float32 scalar
    measurements: Measurements  # loss, accuracy and seen, which `Local` has, and others
    means: Tensors = Nothing  # float32, averaged with ``weight``
    sums: Tensors = Nothing  # float32, summed
    kept: Tensors = Nothing  # stays with the client


class MessageBytes(NamedTuple):
    """Bytes to and from a client in a round, where devices send less than the simulation's tensors hold.

    What is None has the bytes of its tensors.
    """

    down: int | None = None  # the weights and the algorithm's state
    update: int | None = None  # without a compressor
    besides: int | None = None  # means and sums


class Total(NamedTuple):
    """The server's input from a cohort."""

    update: Tensors  # the aggregate of the updates
    means: Tensors
    sums: Tensors
    weight: Any  # the sum of the weights, float32
    clients: Any  # how many clients contributed, int32; with 0, the server's state stays as it was
    all_weights: float  # the sum of `Task.weight` over all clients that can take a local step, in the cohort or not
