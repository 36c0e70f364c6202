"""Sections ``evaluate`` and ``promote``: how a model is measured, and when it takes the champion's place."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fedpipe.config.section import Count, Positive, Section, Size


class Personalise(Section):
    """Local steps of each client from the global model, before it is measured on the client's held-out samples."""

    epochs: Size  # over the client's shard; 0: not measured
    learning_rate: Positive
    batch_size: Count


# A number of clients, or their share of all of them.
HeldOutClients = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)]


class Evaluate(Section):
    """How the trained model is measured."""

    batch_size: Count
    held_out_clients: HeldOutClients = 0  # that never train
    personalise: Personalise
    metrics: tuple[Literal["auc", "f1"], ...] = Field((), strict=False)  # of the test samples, besides accuracy


def held_out_count(requested: int | float, clients: int) -> int:
    """How many of ``clients`` never train: ``requested`` of them, or that share, to the nearest whole number."""
    return requested if isinstance(requested, int) else round(requested * clients)


class McNemar(Section):
    """The paired test on the test images: its level, and the required result."""

    level: Annotated[float, Field(gt=0, lt=1)]
    require: Literal["not_worse", "better"]


Margin = Annotated[float, Field(ge=0, lt=1)]


class Promote(Section):
    """When the challenger takes the champion's place."""

    when: Literal["merged", "at_once"]  # of a retraining: when its pull request is merged | when it is published
    accuracy_margin: Margin
    worst_client_margin: Margin
    mcnemar: McNemar

    def rules(self) -> dict[str, Any]:
        """The keys on which the outcome of a comparison depends."""
        return self.model_dump(exclude={"when"})
