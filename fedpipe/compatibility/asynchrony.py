"""The params that asynchronous training excludes.

An algorithm whose file has a function ``asynchrony(params)`` has no cohorts. Clients train all the time, and the
server steps whenever enough updates have arrived (fedpipe/runtime/asynchronous.py).
"""

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import asynchrony_of


def validate(settings: Train) -> None:
    """Checks what goes with an asynchronous algorithm, if one is chosen; errors as of `train.validate`."""
    if (asynchrony := asynchrony_of(settings)) is not None:
        _who_starts(settings)
        _who_adds(settings, asynchrony.buffer_size)


def _who_starts(settings: Train) -> None:
    name, devices = settings.algorithm, settings.availability.devices
    if settings.cohort != "uniform":
        raise ValueError(
            f"'train.algorithm' {name} starts one client after the other, and 'train.cohort' {settings.cohort} draws "
            "all clients of a round at once: set 'train.cohort' to uniform"
        )
    if settings.clients_per_round != "all":
        raise ValueError(
            f"'train.algorithm' {name} keeps 'train.{name}.concurrency' clients training and draws no cohorts: set "
            "'train.clients_per_round' to all"
        )
    if not devices.seconds_per_sample:
        raise ValueError(
            f"'train.algorithm' {name} takes updates in the order of simulated time, and devices take none: set "
            "'train.availability.devices.seconds_per_sample' above 0"
        )
    if settings.availability.report_goal is not None:
        raise ValueError(
            f"'train.algorithm' {name} steps when its buffer is full, and leaves nobody out for being late: remove "
            "'train.availability.report_goal'"
        )


def _who_adds(settings: Train, buffer_size: int) -> None:
    name, aggregator = settings.algorithm, AGGREGATORS.of(settings.aggregator)
    if settings.client_weighting == "per_client" and buffer_size == 1:
        raise ValueError(
            f"'train.client_weighting' is per_client, and 'train.algorithm' {name} steps with a single update, whose "
            "weight has no effect: set client_weighting to uniform, or 'train.algorithm' to fed_buff with a "
            "'buffer_size' of 2 or more"
        )
    if aggregator.is_private:
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} accounts for cohorts that are drawn at random, and with "
            f"'train.algorithm' {name} it is the fast clients whose updates come often: choose fed_avg or fed_prox"
        )
    if settings.aggregator == "secure_sum":
        raise ValueError(
            "'train.aggregator' secure_sum needs clients that agree on their sum before they send, and with "
            f"'train.algorithm' {name} nobody knows before whose updates come together: choose fed_avg or fed_prox"
        )
    smallest = max(aggregator.smallest_cohort(settings), 2 * aggregator.COLLECTS)
    if buffer_size < smallest:
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} needs the updates of {smallest} clients, and 'train.algorithm' "
            f"{name} steps with {buffer_size}: set 'train.aggregator' to mean, or 'train.algorithm' to fed_buff with a "
            f"'buffer_size' of {smallest} or more"
        )
