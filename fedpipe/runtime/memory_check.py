"""Whether an aggregator that needs all updates of a round can have them: enough clients, and enough memory."""

import psutil

from fedpipe.compatibility import round_size
from fedpipe.contracts.aggregator import Aggregator
from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task
from fedpipe.runtime import cohort

# How often the rows are in memory at the most, an estimate: the rows, and two copies while chunks are joined, or while
# the rows are sorted.
COPIES = 3


def require_memory(task: Task, aggregator: Aggregator) -> None:
    """Refuses a training whose aggregator cannot do its work.

    Raises:
      PipelineError: There are fewer clients than the settings ask for, or the updates of a round do not fit into the
        memory that is free.
    """
    settings = task.settings
    cohort.require_clients(settings, task.clients)
    if not aggregator.COLLECTS:
        return
    weights = task.network.parameters
    updates = round_size.updates(settings, task.clients)
    rows, free = updates.largest * weights * 4, psutil.virtual_memory().available
    if COPIES * rows > free:
        raise PipelineError(
            f"params.yaml: 'train.aggregator' {settings.aggregator} holds all updates of a round, {updates.largest} "
            f"clients x {weights:,} weights x 4 bytes = {_gibibytes(rows)}, and about {COPIES} times as much while it "
            f"computes, but {_gibibytes(free)} of memory are free: make rounds smaller with '{updates.key}', or choose "
            "clipped_mean or zeroed_mean, which hold only sums"
        )


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
