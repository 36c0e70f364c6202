"""What it takes to build a model and to use its weights, as their file says it."""

from dataclasses import dataclass, field
from typing import Any

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.model import LOSSES, MODELS

Shapes = dict[str, tuple[int, ...]]  # names and shapes of the weights, in order

DEFAULT_LOSS = "cross_entropy"


@dataclass(frozen=True)
class ModelSpec:
    """A model by its file's name, for images [height, width, channels] of some classes, and its loss."""

    model: str
    image_shape: tuple[int, int, int]
    classes: int
    params: Any = None  # of the model's file: its Params; None for the defaults
    loss: str = DEFAULT_LOSS
    loss_params: Any = None  # of the loss's file: its Params; None for the defaults
    # Of a model that is imported from a file: its layers as JSON, so that weights can be used without that file. It
    # follows from the params, which name the file's SHA-256.
    architecture: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        # Frozen, so that a spec can be a key; the defaults are those of the files, which the names above say.
        if self.params is None:
            object.__setattr__(self, "params", MODELS.params(self.model)())
        if self.loss_params is None:
            object.__setattr__(self, "loss_params", LOSSES.params(self.loss)())

    @staticmethod
    def of(settings: Train, image_shape: tuple[int, int, int], classes: int) -> "ModelSpec":
        """The model that section train of params.yaml asks for, for these images [height, width, channels]."""
        params, loss_params = settings.params_of("model"), settings.params_of("loss")
        return ModelSpec(settings.model, image_shape, classes, params, settings.loss, loss_params)

    def to_json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold; what is as usual is left out."""
        told: dict[str, Any] = {"model": self.model, "image_shape": list(self.image_shape), "classes": self.classes}
        if params := _said(self.params):
            told["params"] = params
        if self.loss != DEFAULT_LOSS or _said(self.loss_params):
            told |= {"loss": self.loss, "loss_params": _said(self.loss_params)}
        if self.architecture:
            told["architecture"] = self.architecture
        return told

    @staticmethod
    def from_json(told: dict[str, Any]) -> "ModelSpec":
        """What `to_json` gave.

        Raises:
          KeyError, TypeError, ValueError: It is something else, or there is no such model or loss any more.
        """
        loss = told.get("loss", DEFAULT_LOSS)
        # A ValidationError is a ValueError.
        params = MODELS.params(told["model"]).model_validate(told.get("params", {}))
        loss_params = LOSSES.params(loss).model_validate(told.get("loss_params", {}))
        height, width, channels = told["image_shape"]
        shape, architecture = (height, width, channels), told.get("architecture", "")
        return ModelSpec(told["model"], shape, told["classes"], params, loss, loss_params, architecture)


def _said(params: Section) -> dict[str, Any]:
    """The params that are not as by default."""
    return params.model_dump(exclude_defaults=True)
