"""Requirements of privacy on a training: one message per client, of equal weight, and secrets that stay here."""

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError


def require_one_equal_message(settings: Train) -> None:
    """Raises ValueError if clients have other weights than 1, or send more than an update.

    A weight would multiply what a client can change, and a weight by examples tells how many it has.
    """
    if settings.client_weighting != "uniform":
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} gives every client the same weight, and weights by "
            f"{settings.client_weighting} differ: set 'train.client_weighting' to uniform"
        )
    require_one_message(settings)


def require_one_message(settings: Train) -> None:
    """Raises ValueError if clients send more than an update and its weight."""
    if not ALGORITHMS.of(settings.algorithm).ONE_MESSAGE:
        fitting = ", ".join(name for name, algorithm in ALGORITHMS.all() if algorithm.ONE_MESSAGE)
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} protects a client's update and nothing besides, and "
            f"'train.algorithm' {settings.algorithm} uses more than the updates (a second message, weights of the "
            f"clients' own, or how many clients sent one): choose one of {fitting}"
        )


def require_no_secret(settings: Train) -> None:
    """Raises PipelineError if a training on a cluster would have secret noise."""
    if has_secret_noise(settings):
        raise PipelineError(
            "params.yaml: 'train.privacy.noise' is secret, and a secret does not travel to a cluster's workers: train "
            "on this machine alone (unset FEDPIPE_CLUSTER), or set it to seeded"
        )
