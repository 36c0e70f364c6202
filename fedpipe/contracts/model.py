"""The contracts of fedpipe/models, fedpipe/losses and fedpipe/metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedpipe.config.train import METRICS_FOLDER, Train
from fedpipe.contracts.choice import Choice, ContractError, TrainChoice, constant, function
from fedpipe.contracts.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from fedpipe.networks.dropout import Dropout
    from fedpipe.networks.spec import ModelSpec, Shapes

    MakeShapes = Callable[[ModelSpec], Shapes]
    Forward = Callable[[ModelSpec, list[Any], Any, Dropout], Any]


@dataclass(frozen=True, kw_only=True)
class Model(TrainChoice):
    """A file of ``fedpipe/models``: ``shapes`` and ``forward``, or ``keras_model``."""

    shapes: MakeShapes | None = function("spec", "Names and shapes of the weights, in order.", None)
    forward: Forward | None = function(
        "spec, weights, images, dropout",
        "Samples float32, such as images [n, h, w, c] in [0, 1], to outputs float32 [n, spec.outputs]: a logit for "
        "each class, or the numbers of a label.",
        None,
    )
    keras_model: Callable[[ModelSpec], Any] | None = function(
        "spec", "In place of `shapes` and `forward`: Keras layers, from samples to outputs.", None
    )
    architecture: Callable[[ModelSpec], str] | None = function(
        "spec", "With `keras_model`: the layers as JSON, kept with the weights (`keras_file.py`).", None
    )
    constants: Callable[[ModelSpec], Mapping[str, np.ndarray]] | None = function(
        "spec", "With `keras_model`: its weights that are not trained, kept with the others (`keras_file.py`).", None
    )
    first_weights: Callable[[ModelSpec, np.random.Generator], list[np.ndarray]] | None = function(
        "spec, rng", "The weights before the first round, float32; without it kernels are Glorot-uniform.", None
    )
    keras_layers: Callable[[ModelSpec], list[Any]] | None = function(
        "spec", "Beside `shapes` and `forward`: the same layers of Keras, for `make export FORMAT=keras`.", None
    )
    has_batch_norm: Callable[[Train], bool] = function(
        "settings",
        "With `keras_model`: whether it has batch normalization that is trained, as far as it is known before the "
        "model is built; then choices that do not go with it are rejected before any stage.",
        lambda settings: False,
    )
    SMALLEST_SIDE: int = constant(1, "The smallest height and width of images, in pixels; 1: samples of any shape.")

    def _check_names(self) -> None:
        by_hand = [self.shapes is not None, self.forward is not None]
        if any(by_hand) and self.keras_model is not None:
            raise ContractError("defines 'keras_model' and 'shapes' or 'forward', which take each other's place")
        if not all(by_hand) and self.keras_model is None:
            raise ContractError("does not define 'shapes' and 'forward', or 'keras_model'")
        if self.keras_layers is not None and self.keras_model is not None:
            raise ContractError("defines 'keras_layers' beside 'keras_model', which has the layers")
        for name in ("architecture", "constants", "has_batch_norm"):
            if self.defines(name) and self.keras_model is None:
                raise ContractError(f"defines '{name}' without 'keras_model'")

    @property
    def by_hand(self) -> tuple[MakeShapes, Forward]:
        """`shapes` and `forward` of a model without `keras_model`."""
        if self.shapes is None or self.forward is None:  # `_check_names` refuses it
            raise ContractError("does not define 'shapes' and 'forward'")
        return self.shapes, self.forward


@dataclass(frozen=True, kw_only=True)
class Loss(TrainChoice):
    """A file of ``fedpipe/losses``."""

    losses: Callable[[Any, Any, Any], Any] = function(
        "params, labels, logits",
        "The loss float32 [n] of each example, from labels int32 [n] and logits [n, classes]; where labels are "
        "numbers, from labels float32 [n, numbers] and outputs of that shape.",
    )
    predictions: Callable[[Any, Any], Any] | None = function(
        "params, outputs",
        "Where labels are numbers: the predicted numbers, from the model's outputs. Without it they are the outputs.",
        None,
    )
    LABELS: tuple[str, ...] = constant(("classes",), "The labels that it is for: classes, numbers, or both.")


@dataclass(frozen=True, kw_only=True)
class Metric(Choice):
    """A file of ``fedpipe/metrics``."""

    per_example: Callable[[Any, Any], Any] = function(
        "labels, logits",
        "One number per example [n], from labels int32 [n] and logits float32 [n, classes]; where labels are numbers, "
        "from labels float32 [n, numbers] and predictions of that shape.",
    )
    LABELS: tuple[str, ...] = constant(("classes",), "The labels that it is for: classes, numbers, or both.")

    def _check_names(self) -> None:
        if self.defines("Params"):
            raise ContractError("defines 'Params', but a metric has no section in params.yaml")


MODELS = Registry(Train.CHOICES["model"], Model)
LOSSES = Registry(Train.CHOICES["loss"], Loss)
METRICS = Registry(METRICS_FOLDER, Metric)
