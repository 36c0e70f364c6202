"""The specification by which a model is built and its weights are used, as their file has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.attack import ATTACKS
from fedpipe.contracts.model import LOSSES, METRICS, MODELS
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import PIXELS, Format, Kind, Shape

Shapes = dict[str, tuple[int, ...]]  # names and shapes of the weights, in order

DEFAULT_LOSS = "cross_entropy"


@dataclass(frozen=True)
class ModelSpec:
    """A model by its file's name, for samples of a kind, such as images of some classes, and its loss."""

    model: str
    image_shape: Shape  # of a sample: height, width, channels of images
    classes: int  # 0 where labels are numbers
    params: Any = None  # of the model's file: its Params; None for the defaults
    loss: str = DEFAULT_LOSS
    loss_params: Any = None  # of the loss's file: its Params; None for the defaults
    # Of a model that is imported from a file: its layers as JSON, so that weights can be used without that file. It
    # follows from the params, which name the file's SHA-256.
    architecture: str = field(default="", compare=False, repr=False)
    format: Format = PIXELS  # of samples and labels
    # Of a model that is imported from a file: its weights that are not trained, None until they are read. They follow
    # from the params, too.
    constants: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Frozen, so that a spec can be a key; the defaults are those of the files, which the names above say.
        if self.params is None:
            object.__setattr__(self, "params", MODELS.of(self.model).Params())
        if self.loss_params is None:
            object.__setattr__(self, "loss_params", LOSSES.of(self.loss).Params())

    @staticmethod
    def of(settings: Train, image_shape: Shape, classes: int, sample_format: Format = PIXELS) -> "ModelSpec":
        """The model that section train of params.yaml asks for, for samples of this kind.

        Raises:
          PipelineError: A metric or an attack does not fit the data.
        """
        params, loss_params = settings.params_of("model"), settings.params_of("loss")
        spec = ModelSpec(settings.model, image_shape, classes, params, settings.loss, loss_params, format=sample_format)
        _require_attack_fits(settings, spec.kind)
        labels = spec.kind.label_kind
        if unfit := [name for name in settings.metrics if labels not in METRICS.of(name).LABELS]:
            fitting = [name for name, metric in METRICS.all() if labels in metric.LABELS]
            raise PipelineError(
                f"params.yaml: 'train.metrics' names {unfit[0]}, but the data set's labels are {labels}: possible are "
                f"{', '.join(fitting)}"
            )
        return spec

    @property
    def kind(self) -> Kind:
        """The kind of the samples and labels."""
        return Kind(self.image_shape, self.classes, self.format)

    @property
    def outputs(self) -> int:
        """Numbers that the model gives for a sample: a logit for each class, or each number of a label."""
        return self.kind.outputs

    def to_json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold; defaults are left out."""
        content: dict[str, Any] = {"model": self.model, "image_shape": list(self.image_shape), "classes": self.classes}
        if params := _not_default(self.params):
            content["params"] = params
        if self.loss != DEFAULT_LOSS or _not_default(self.loss_params):
            content |= {"loss": self.loss, "loss_params": _not_default(self.loss_params)}
        if self.architecture:
            content["architecture"] = self.architecture
        if self.format != PIXELS:
            content["format"] = self.format.model_dump(mode="json", exclude_defaults=True)
        return content

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ModelSpec":
        """From the result of `to_json`.

        Raises:
          KeyError, TypeError, ValueError: It is something else, or its model or loss no longer exists.
        """
        loss = content.get("loss", DEFAULT_LOSS)
        # A ValidationError is a ValueError.
        params = MODELS.of(content["model"]).Params.model_validate(content.get("params", {}))
        loss_params = LOSSES.of(loss).Params.model_validate(content.get("loss_params", {}))
        sample_format = Format.model_validate(content["format"]) if "format" in content else PIXELS
        shape = tuple(content["image_shape"])
        if not shape or not all(type(side) is int and side > 0 for side in (*shape, content["classes"] + 1)):
            raise ValueError(f"samples have no shape {shape}, or {content['classes']} is no number of classes")
        architecture = content.get("architecture", "")
        return ModelSpec(
            content["model"], shape, content["classes"], params, loss, loss_params, architecture, sample_format
        )


def _require_attack_fits(settings: Train, kind: Kind) -> None:
    needs = ATTACKS.of(settings.attack).NEEDS
    fits = {"classes": kind.label_kind == "classes", "images": kind.is_image}
    if needs and not fits[needs]:
        raise PipelineError(
            f"params.yaml: 'train.attack' is {settings.attack}, which is for {needs}, and the data set has {kind}: "
            "set it to another attack"
        )


def _not_default(params: Section) -> dict[str, Any]:
    """The params that are not as by default."""
    return params.model_dump(exclude_defaults=True)
