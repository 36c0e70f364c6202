"""Rules across the algorithm, the cohort, the availability and the aggregator, each refused with its reason."""

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, Aggregator
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.cohort import COHORTS, ClientSampler


def validate(settings: Train) -> None:
    """Checks who takes part in a round, and how much each client counts; errors as of `train.validate`."""
    cohort, aggregator = COHORTS.of(settings.cohort), AGGREGATORS.of(settings.aggregator)
    _report_goal(settings, cohort)
    _privacy(settings, cohort, aggregator)
    _weights(settings, aggregator)
    _rows(settings, aggregator)


def _report_goal(settings: Train, cohort: ClientSampler) -> None:
    if settings.availability.report_goal is not None and cohort.MAY_BE_EMPTY:
        raise ValueError(
            f"'train.cohort' {settings.cohort} draws each client by itself, and 'train.availability.report_goal' would "
            "cut its cohorts to a fixed size: remove the goal, or set 'train.cohort' to uniform"
        )


def _privacy(settings: Train, cohort: ClientSampler, aggregator: Aggregator) -> None:
    """An aggregator with ``mechanism`` has a privacy ledger, which must know all that clients send, and how often."""
    if not aggregator.is_private:
        return
    availability = settings.availability
    if availability.report_goal is not None:
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} accounts for clients whose part in a round depends on no data, "
            "and 'train.availability.report_goal' takes the fastest: who these are depends on how many samples each "
            "has, and on who else is asked: remove the goal"
        )
    if availability.decides_who and not aggregator.COUNTS_DROPOUTS:
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} accounts for the cohorts that 'train.cohort' {settings.cohort} "
            "draws from all clients, and 'train.availability' changes them: set dropout_before and "
            "dropout_during to 0.0 and cyclic.groups to 1"
        )
    if cohort.needs_losses:
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} accounts for what clients send, and 'train.cohort' "
            f"{settings.cohort} also has them send their losses, without noise: set 'train.cohort' to uniform"
        )


def _weights(settings: Train, aggregator: Aggregator) -> None:
    if settings.client_weighting == "per_client" and aggregator.IGNORES_WEIGHTS:
        raise ValueError(
            f"'train.client_weighting' is per_client, and 'train.aggregator' {settings.aggregator} counts all clients "
            "alike: set 'train.aggregator' to mean or geometric_median, or client_weighting to uniform"
        )
    if ALGORITHMS.of(settings.algorithm).NEEDS_WEIGHTS and aggregator.IGNORES_WEIGHTS:
        raise ValueError(
            f"'train.algorithm' {settings.algorithm} lets clients count by weights of its own, and 'train.aggregator' "
            f"{settings.aggregator} counts all alike: set 'train.aggregator' to mean or geometric_median, or "
            "'train.algorithm' to fed_avg"
        )


def _rows(settings: Train, aggregator: Aggregator) -> None:
    """Measurements of single clients are what noise and secure sums hide."""
    if settings.client_rounds and (aggregator.is_private or aggregator.SUMS_INTEGERS):
        raise ValueError(
            f"'train.client_rounds' writes what each client measured in each round, and 'train.aggregator' "
            f"{settings.aggregator} protects the update of a single client: set it to false, or 'train.aggregator' to "
            "mean"
        )
