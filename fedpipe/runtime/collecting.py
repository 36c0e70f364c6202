"""Whether an aggregator that needs all updates of a cohort can have them: enough clients, and enough memory."""

from types import ModuleType
from typing import Any

import psutil

from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task

# How often the rows are in memory at the most, an estimate: the rows, and two copies while chunks are joined, or while
# the rows are sorted.
COPIES = 3


def check(task: Task, aggregator: ModuleType) -> None:
    """Refuses a training whose aggregator cannot do its work.

    Raises:
      PipelineError: A round has fewer clients than the aggregator needs, or their updates do not fit into the memory
        that is free.
    """
    settings = task.settings
    every = settings.clients_per_round == "all"
    cohort: Any = task.clients if every else settings.clients_per_round
    fewer = "train.clients_per_round"
    if settings.asynchrony is not None:
        cohort = min(settings.asynchrony.buffer_size, task.clients)
        fewer = f"train.{settings.algorithm}.buffer_size"
    smallest = aggregator.smallest_cohort(settings) if hasattr(aggregator, "smallest_cohort") else 0
    if cohort < smallest:
        raise PipelineError(
            f"params.yaml: 'train.aggregator' {settings.aggregator} needs {smallest} clients in a round, and there are "
            f"{cohort}: raise 'partition.clients', or lower 'train.{settings.aggregator}.attackers'"
        )
    if not getattr(aggregator, "COLLECTS", False):
        return
    weights = task.network.parameters
    rows, free = cohort * weights * 4, psutil.virtual_memory().available
    if COPIES * rows > free:
        raise PipelineError(
            f"params.yaml: 'train.aggregator' {settings.aggregator} holds all updates of a round, {cohort} clients x "
            f"{weights:,} weights x 4 bytes = {_said(rows)}, and about {COPIES} times as much while it computes, but "
            f"{_said(free)} of memory are free: lower '{fewer}', or choose clipped_mean or zeroed_mean, which hold "
            "only sums"
        )


def _said(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
