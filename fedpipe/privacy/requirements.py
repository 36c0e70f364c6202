"""What an aggregator can ask of the rest of the params: one message per client, of equal weight."""

from fedpipe.config.train import ALGORITHMS, Train

ONE_MESSAGE = "ONE_MESSAGE"  # what an algorithm's file sets to True if clients send an update, and nothing besides


def require_one_equal_message(settings: Train) -> None:
    """Raises ValueError if clients have other weights than 1, or send more than an update."""
    if settings.client_weighting != "uniform":
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} gives every client the same weight, for a weight tells how many "
            "examples a client has: set 'train.client_weighting' to uniform"
        )
    if not sends_one_message(settings.algorithm):
        fitting = ", ".join(name for name in ALGORITHMS.names if sends_one_message(name))
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} protects a client's update and nothing besides, and "
            f"'train.algorithm' {settings.algorithm} uses more than the updates (a second message, weights of the "
            f"clients' own, or how many clients sent one): choose one of {fitting}"
        )


def sends_one_message(algorithm: str) -> bool:
    """Whether clients of an algorithm send an update of weight 1, without ``means`` or ``sums`` (its file says so)."""
    return getattr(ALGORITHMS.module(algorithm), ONE_MESSAGE, False) is True
