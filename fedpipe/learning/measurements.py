"""Measurements of clients and of the server, each with the way in which it adds up to a figure of the round.

A measurement is a named tuple of one tensor, so its kind is a part of the structure and costs nothing in a graph. The
tensors of a round's clients are summed, whatever the kind; `column` makes a column of metrics/rounds.csv of the sum.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fedpipe.errors import PipelineError


class MeanPerExample(NamedTuple):
    """The mean over the examples that the round's clients trained on; one that was seen twice counts twice."""

    total: Any  # over a client's examples; float32, or int64 for a sum that must be exact


class MeanPerClient(NamedTuple):
    """The mean over the clients that contributed to the round, each of which counts once."""

    total: Any  # a client's number, float32


class Summed(NamedTuple):
    """The sum over the clients; a number of the server's, which there is once, stays as it is."""

    total: Any  # float


class Counted(NamedTuple):
    """A whole number, summed over the clients."""

    total: Any  # int32 or int64


class PerClient(NamedTuple):
    """A row per client, in the order of the cohort (client_rows.py): no column of the round, and no sum."""

    total: Any  # float64 [clients, columns]


KINDS = (MeanPerExample, MeanPerClient, Summed, Counted)
Measurement = MeanPerExample | MeanPerClient | Summed | Counted | PerClient
Measurements = Mapping[str, Measurement]  # by name, which is the column's

COMPRESSED = "compressed_bytes"  # of the clients' compressed updates
CLIENT_ROWS = "client_rows"  # with `train.client_rounds`
SILENT = "silent"  # clients that take no local step, and so send nothing
CLIP_NORM, CLIPPED = "clip_norm", "clipped"  # of an aggregator that scales updates down
# Seconds, summed over the clients: the only measurements that change from run to run.
READ, WORK = "read_seconds", "work_seconds"


def column(measurement: Measurement, seen: int, clients: int) -> float | int | None:
    """The column of a round, from a sum over ``clients`` that trained on ``seen`` examples; None for a mean of none."""
    match measurement:
        case MeanPerExample(total):
            return float(total) / seen if seen else None
        case MeanPerClient(total):
            return float(total) / clients if clients else None
        case Summed(total):
            return float(total)
        case Counted(total):
            return int(total)
        case PerClient(_):
            raise TypeError("rows of clients are no column of a round")


def checked(measurements: Measurements, source: str, names: Iterable[str] = ()) -> Measurements:
    """``measurements``, if each of them has a kind and ``names`` are among them.

    Raises:
      PipelineError: It is not so; the message begins with ``source``, the file that measures.
    """
    for name, measurement in measurements.items():
        if not isinstance(measurement, KINDS):
            kinds = ", ".join(kind.__name__ for kind in KINDS)
            raise PipelineError(
                f"{source} measures '{name}' and does not say how it adds up: make it one of {kinds} "
                "(fedpipe/learning/measurements.py)"
            )
    if missing := [name for name in names if name not in measurements]:
        raise PipelineError(f"{source} does not measure {', '.join(missing)}: pass on the measurements of `task.train`")
    return measurements


def joined(source: str, *parts: Measurements) -> "OrderedDict[str, Measurement]":
    """All measurements of ``parts``.

    Raises:
      PipelineError: A name is there twice; the message begins with ``source``, the file that measures the last part.
    """
    every: OrderedDict[str, Measurement] = OrderedDict()
    for part in parts:
        if twice := [name for name in part if name in every]:
            raise PipelineError(f"{source} measures {', '.join(twice)}, as is done already: choose other names")
        every |= part
    return every
