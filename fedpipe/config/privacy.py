"""Section ``train.privacy``, and how much noise the private aggregators add."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fedpipe.config.section import Positive, Section

AUTO = "auto"
# Standard deviation of the noise over the clip norm, or the least that ``train.privacy.epsilon`` allows.
NoiseMultiplier = Positive | Literal["auto"]


class Privacy(Section):
    """Of (epsilon, delta)-differential privacy: delta, a target for epsilon, and where the noise comes from."""

    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    epsilon: Positive | None = None
    noise: Literal["seeded", "secret"] = "seeded"


def require_target(settings: Any) -> None:
    """Checks that a target and the noise that follows from it come together.

    Args:
      settings: Section train of params.yaml.

    Raises:
      ValueError: One is without the other, or there are two targets.
    """
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
