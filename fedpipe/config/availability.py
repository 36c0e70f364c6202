"""Section ``train.availability``: clients that cannot be asked, drop out, do less, or are late.

fedpipe/runtime/availability.py and docs/cohorts.md explain the keys.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from fedpipe.config.section import Count, NotNegative, Rate, Section

Share = Annotated[float, Field(ge=0, le=1)]


class Stragglers(Section):
    """The share of the asked clients that do a part of their local steps, and the least part."""

    share: Share = 0.0
    least_work: Annotated[float, Field(gt=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _somebody_does_less(self) -> Self:
        if self.least_work != 0.1 and not self.share:
            raise ValueError("'least_work' is that of stragglers, of whom there are none: set 'share' above 0.0")
        return self


class Cyclic(Section):
    """Groups of clients that are there in turn; ``period`` is how many rounds it takes until the first is back."""

    groups: Count = 1
    period: Count = 1

    @model_validator(mode="after")
    def _each_group_has_a_round(self) -> Self:
        if self.period < self.groups:
            raise ValueError(
                f"'period' is {self.period}, but {self.groups} groups need a round each: raise 'period' to "
                f"{self.groups} or more, or lower 'groups'"
            )
        if self.period > 1 and self.groups == 1:
            raise ValueError("'period' is that of groups, of which there is one: set 'groups' to 2 or more")
        return self


Spread = Annotated[float, Field(ge=0, le=10)]


class Bandwidth(Section):
    """The median client's connection in megabits per second, 0 for one that takes no time; and how they differ."""

    down: NotNegative = 0.0
    up: NotNegative = 0.0
    spread: Spread = 0.0


class Devices(Section):
    """How long clients take.

    ``seconds_per_sample``: of the median device; ``spread`` of the devices' speeds; ``latency``: seconds that each
    client's messages take, down and up together, whatever their size; ``bandwidth``: what their size adds.
    """

    seconds_per_sample: NotNegative = 0.0
    spread: Spread = 0.0
    latency: NotNegative = 0.0
    bandwidth: Bandwidth = Bandwidth()

    @model_validator(mode="after")
    def _messages_take_simulated_time(self) -> Self:
        means = {"latency": self.latency, "bandwidth.down": self.bandwidth.down, "bandwidth.up": self.bandwidth.up}
        for key, value in means.items():
            if value and not self.seconds_per_sample:
                raise ValueError(
                    f"'{key}' is simulated time, of which there is none: set 'seconds_per_sample' above 0, or '{key}' "
                    "to 0.0"
                )
        for key, value, other in (
            ("spread", self.spread, self.seconds_per_sample),
            ("bandwidth.spread", self.bandwidth.spread, self.bandwidth.down or self.bandwidth.up),
        ):
            if value and not other:
                needs = "seconds_per_sample" if key == "spread" else "bandwidth.down' or 'bandwidth.up"
                raise ValueError(f"'{key}' is that of simulated times, of which there are none: set '{needs}' above 0")
        return self


class Availability(Section):
    """The clients of a training as a system of devices; by default all are there, and all finish."""

    dropout_before: Rate = 0.0
    dropout_during: Rate = 0.0
    stragglers: Stragglers = Stragglers()
    cyclic: Cyclic = Cyclic()
    devices: Devices = Devices()
    report_goal: Count | None = None

    @property
    def decides_who(self) -> bool:
        """Whether other clients count than those that the cohort's file draws from all."""
        return bool(
            self.dropout_before or self.dropout_during or self.cyclic.groups > 1 or self.report_goal is not None
        )

    @property
    def is_on(self) -> bool:
        """Whether a round differs in anything from one in which all clients are there and finish."""
        return self.decides_who or bool(self.stragglers.share or self.devices.seconds_per_sample)

    @model_validator(mode="after")
    def _a_goal_needs_an_order(self) -> Self:
        if self.report_goal is not None and not self.devices.seconds_per_sample:
            raise ValueError(
                "'report_goal' counts the first clients to finish: set 'devices.seconds_per_sample' above 0, so that "
                "there are first ones"
            )
        return self
