"""Section ``train``: model, cohort, client work and server step."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from fedpipe.config.section import Count, Positive, Section, Seed


class Optimizer(Section):
    """An optimizer of ``tff.learning.optimizers`` and its rate."""

    name: Literal["sgd", "adam", "adagrad", "rmsprop", "yogi"]
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> "Optimizer":
        if self.momentum and self.name != "sgd":
            raise ValueError(f"{self.name} takes no momentum: set it to 0.0, or the name to sgd")
        return self


ModelName = Literal["seed_cnn", "mcmahan_2nn", "mcmahan_cnn"]
MODEL_NAMES: tuple[str, ...] = get_args(ModelName)


class Train(Section):
    """Federated averaging: model, rounds, cohort, client work and server step."""

    model: ModelName
    rounds: Count
    clients_per_round: Literal["all"] | Count
    local_epochs: Annotated[int, Field(ge=1, le=10**4)]
    batch_size: Count
    client_optimizer: Optimizer
    server_optimizer: Optimizer
    client_weighting: Literal["examples", "uniform"]
    init: Literal["fresh", "champion"]
    seed: Seed
