"""Section ``train.privacy``, and how much noise the private aggregators add."""

from typing import Annotated, Literal

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
