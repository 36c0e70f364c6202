"""What an aggregator can ask of the rest of the params: one message per client, of equal weight."""

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS


def require_one_equal_message(settings: Train) -> None:
    """Raises ValueError if clients have other weights than 1, or send more than an update."""
    if settings.client_weighting != "uniform":
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} gives every client the same weight, for a weight tells how many "
            "examples a client has: set 'train.client_weighting' to uniform"
        )
    if not ALGORITHMS.of(settings.algorithm).ONE_MESSAGE:
        fitting = ", ".join(name for name, algorithm in ALGORITHMS.all() if algorithm.ONE_MESSAGE)
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} protects a client's update and nothing besides, and "
            f"'train.algorithm' {settings.algorithm} uses more than the updates (a second message, weights of the "
            f"clients' own, or how many clients sent one): choose one of {fitting}"
        )
