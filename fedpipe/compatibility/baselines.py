"""The params that a baseline without a federation excludes: those of messages, of a server, of devices.

A baseline is an algorithm whose file has ``POOLS_SAMPLES`` (one learner with all samples) or ``HAS_NO_GLOBAL_MODEL``
(each client by itself).
"""

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.cohort import COHORTS


def validate(settings: Train) -> None:
    """Checks what goes with a baseline, if one is chosen; errors as of `train.validate`."""
    algorithm = ALGORITHMS.of(settings.algorithm)
    if algorithm.is_baseline:
        _no_messages(settings)
        _no_server(settings)
        _no_devices(settings)
        if algorithm.POOLS_SAMPLES and settings.client_rounds:
            raise ValueError(
                f"'train.algorithm' {settings.algorithm} has one learner in place of clients, and "
                "'train.client_rounds' asks for a row of each client: set 'train.client_rounds' to false"
            )
        if algorithm.HAS_NO_GLOBAL_MODEL and settings.keep_best:
            raise ValueError(
                f"'train.algorithm' {settings.algorithm} trains no global model, and 'train.keep_best' keeps the best "
                "one: set 'train.keep_best' to false"
            )


def _no_messages(settings: Train) -> None:
    for key, value, neutral, effect in (
        ("aggregator", settings.aggregator, "mean", "combines the updates that clients send"),
        ("compressor", settings.compressor, "no_compression", "shortens the updates that clients send"),
        ("attack", settings.attack, "no_attack", "changes the updates that attackers send"),
    ):
        if value != neutral:
            raise ValueError(
                f"'train.algorithm' {settings.algorithm} is a baseline in which no client sends anything, and "
                f"'train.{key}' {value} {effect}: set 'train.{key}' to {neutral}"
            )


def _no_server(settings: Train) -> None:
    server = settings.server_optimizer
    if (server.name, server.learning_rate, server.momentum, server.schedule.name, server.schedule.warm_up) != (
        *("sgd", 1.0, 0.0),
        *("constant", 0),
    ):
        raise ValueError(
            f"'train.algorithm' {settings.algorithm} is a baseline without a server's step: set "
            "'train.server_optimizer' to sgd with learning_rate 1.0, momentum 0.0 and the schedule constant; "
            "'train.client_optimizer' takes the steps"
        )
    if COHORTS.of(settings.cohort).needs_losses:
        raise ValueError(
            f"'train.algorithm' {settings.algorithm} is a baseline without a global model at clients, and "
            f"'train.cohort' {settings.cohort} chooses them by its loss: set 'train.cohort' to uniform"
        )


def _no_devices(settings: Train) -> None:
    if settings.availability.is_on:
        raise ValueError(
            f"'train.algorithm' {settings.algorithm} is a baseline that waits for no device: set "
            "'train.availability' back to what is off"
        )
    if settings.dropouts:
        raise ValueError(
            f"'train.algorithm' {settings.algorithm} is a baseline that loses no site: set 'train.dropouts' to []"
        )
