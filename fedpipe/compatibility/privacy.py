"""The rules of a privacy budget: its ledger, its target, and what secret noise covers."""

from fedpipe.config.privacy import AUTO
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_noise, has_secret_noise


def validate(settings: Train) -> None:
    """Checks section ``train.privacy`` beside the other choices; errors as of `train.validate`."""
    if settings.privacy.noise == "secret" and not has_noise(settings):
        raise ValueError(
            f"'train.privacy.noise' is secret, and 'train.aggregator' {settings.aggregator} adds none: choose one of "
            f"{', '.join(_private())}, or set the key to seeded"
        )
    _ledger(settings)
    _target(settings)
    if has_secret_noise(settings) and settings.selecting and settings.selection == "validation":
        raise ValueError(
            f"'train.{settings.selecting[0]}' chooses a round by validation samples, which are training images, and "
            "secret noise covers clients' updates only: set 'train.selection' to test, or "
            f"remove '{settings.selecting[0]}'"
        )


def seeded_noise_at_sites(settings: Train) -> str:
    """Why sites of a federation do not train with noise of clients that comes from the seed."""
    return (
        f"'train.privacy.noise' is seeded, and sites draw the noise of 'train.aggregator' {settings.aggregator} with "
        "secret keys of their own, for everybody knows the seed: set it to secret"
    )


def _ledger(settings: Train) -> None:
    if settings.stop_at.epsilon is not None and not has_noise(settings):
        raise ValueError(
            f"'train.stop_at.epsilon' needs an aggregator that spends a privacy budget, and 'train.aggregator' "
            f"{settings.aggregator} does not: choose one of {', '.join(_private())}, or remove the key"
        )


def _private() -> list[str]:
    """The names of the aggregators with noise."""
    return [name for name, aggregator in AGGREGATORS.all() if aggregator.is_private]


def _target(settings: Train) -> None:
    """A target and the noise that follows from it come together."""
    target, name = settings.privacy.epsilon, settings.aggregator
    auto = getattr(settings.params_of("aggregator"), "noise_multiplier", None) == AUTO
    if auto and target is None:
        raise ValueError(
            f"'train.{name}.noise_multiplier' auto is computed from a target: set 'train.privacy.epsilon' to it"
        )
    if target is not None and not auto:
        raise ValueError(
            f"'train.privacy.epsilon' is {target}, a target from which the noise is computed, and 'train.aggregator' "
            f"{name} has its noise from params.yaml, or none: set the noise_multiplier of dp_gaussian, dp_ftrl or "
            "local_dp to auto, or remove the target"
        )
    if target is not None and settings.stop_at.epsilon is not None:
        raise ValueError(
            "'train.privacy.epsilon' is the target of all 'train.rounds' together, and 'train.stop_at.epsilon' ends "
            "training before them: remove one of the two"
        )
