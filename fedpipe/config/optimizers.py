"""The optimizers of section ``train``, with learning rates that change over the rounds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedpipe.config.section import Count, NotNegative, Positive, Rate, Section

# The keys of each schedule, besides name and warm_up.
SCHEDULE_KEYS = {
    "constant": (),
    "step": ("every", "factor"),
    "exponential": ("every", "factor"),
    "cosine": ("rounds", "end"),
}


class Schedule(Section):
    """How a learning rate changes over the rounds (fedpipe/learning/schedules.py has the formulas).

    A key that is None has a default that works in a training of any length (`steps_every` and so on).
    """

    name: Literal["constant", "step", "exponential", "cosine"] = "constant"
    warm_up: Annotated[int, Field(ge=0, le=10**6)] = 0
    every: Count | None = None  # None: a quarter of the rounds after the warm-up for step, 1 for exponential
    factor: Annotated[float, Field(gt=0, le=1)] | None = None  # None: 0.5 for step, 0.99 for exponential
    rounds: Count | None = None  # None: train.rounds
    end: Rate | None = None  # None: 0.0

    @model_validator(mode="after")
    def _only_its_own_keys(self) -> "Schedule":
        own = SCHEDULE_KEYS[self.name]
        for key in ("every", "factor", "rounds", "end"):
            if getattr(self, key) is not None and key not in own:
                names = [name for name, keys in SCHEDULE_KEYS.items() if key in keys]
                raise ValueError(f"{self.name} has no '{key}': leave it out, or set the name to {' or '.join(names)}")
        return self

    @model_validator(mode="after")
    def _cosine_comes_after_the_warm_up(self) -> "Schedule":
        if self.rounds is not None and self.rounds <= self.warm_up:
            raise ValueError(f"cosine needs 'rounds' above 'warm_up' ({self.warm_up}), not {self.rounds}")
        return self

    @property
    def follows_all_rounds(self) -> bool:
        """Whether its rates depend on how many rounds the training has."""
        return (self.name == "cosine" and self.rounds is None) or (self.name == "step" and self.every is None)

    def steps_every(self, rounds: int) -> int:
        """``every`` in a training of so many rounds."""
        if self.every is not None:
            return self.every
        return max(1, -(-(rounds - self.warm_up) // 4)) if self.name == "step" else 1

    @property
    def decay(self) -> float:
        """``factor``, or its default."""
        if self.factor is not None:
            return self.factor
        return 0.5 if self.name == "step" else 0.99

    def ends_after(self, rounds: int) -> int:
        """``rounds`` in a training of so many rounds."""
        return rounds if self.rounds is None else self.rounds


class Optimizer(Section):
    """Params of both the clients' optimizer and the server's: a name, a rate, and those of single names."""

    name: str
    learning_rate: Positive
    momentum: Rate
    schedule: Schedule = Schedule()
    epsilon: NotNegative | None = None  # tau of Reddi et al. 2021; None is TFF's default
    initial_accumulator: NotNegative | None = None  # the start of adagrad's and yogi's sums; None is TFF's default

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> "Optimizer":
        if self.momentum and self.name != "sgd":
            raise ValueError(f"{self.name} takes no momentum: set it to 0.0, or the name to sgd")
        return self

    @model_validator(mode="after")
    def _has_what_is_set(self) -> "Optimizer":
        if self.epsilon is not None and self.name == "sgd":
            raise ValueError("sgd has no epsilon: leave it out, or set the name to adam, adagrad, rmsprop or yogi")
        if self.initial_accumulator is not None and self.name in ("sgd", "adam", "rmsprop"):
            raise ValueError(
                f"{self.name} has no initial_accumulator: leave it out, or set the name to adagrad or yogi"
            )
        return self


class ClientOptimizer(Optimizer):
    """The clients' optimizer, one of ``tff.learning.optimizers``, and changes of a gradient before its step."""

    name: Literal["sgd", "adam", "adagrad", "rmsprop", "yogi"]
    weight_decay: NotNegative = 0.0
    clip_norm: NotNegative = 0.0


class ServerOptimizer(Optimizer):
    """The server's optimizer: also FedAdagrad, FedAdam and FedYogi as their paper has them (learning/adaptive.py)."""

    name: Literal["sgd", "adam", "adagrad", "rmsprop", "yogi", "fed_adagrad", "fed_adam", "fed_yogi"]
    beta_1: Rate | None = None  # None is 0.9, and 0.0 for fed_adagrad
    beta_2: Rate | None = None  # None is 0.99

    @property
    def is_of_the_paper(self) -> bool:
        """Whether it is one of those of Reddi et al. 2021."""
        return self.name.startswith("fed_")

    @property
    def tau(self) -> float:
        """The summand of the root of v: ``epsilon``."""
        return 1e-3 if self.epsilon is None else self.epsilon

    @property
    def start(self) -> float:
        """v before the first step: ``initial_accumulator``."""
        return self.tau**2 if self.initial_accumulator is None else self.initial_accumulator

    @property
    def first_decay(self) -> float:
        """beta_1 of the paper."""
        default = 0.0 if self.name == "fed_adagrad" else 0.9
        return default if self.beta_1 is None else self.beta_1

    @property
    def second_decay(self) -> float:
        """beta_2 of the paper."""
        return 0.99 if self.beta_2 is None else self.beta_2

    @model_validator(mode="after")
    def _betas_are_for_those_of_the_paper(self) -> "ServerOptimizer":
        if not self.is_of_the_paper and (self.beta_1 is not None or self.beta_2 is not None):
            raise ValueError(
                f"{self.name} takes no beta_1 and beta_2 here: leave them out, or set the name to fed_adam or fed_yogi"
            )
        if self.name == "fed_adagrad" and self.beta_2 is not None:
            raise ValueError("fed_adagrad forgets nothing: leave beta_2 out, or set the name to fed_adam or fed_yogi")
        if self.is_of_the_paper and not self.tau:
            raise ValueError(f"{self.name} divides by sqrt(v) + epsilon: set epsilon above 0.0, or leave it out")
        return self
