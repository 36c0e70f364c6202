"""A model, built from its file: shapes, first weights, forward pass, loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fedpipe.contracts.model import LOSSES, MODELS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.arrays import require_images
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.initialisation import glorot_uniform
from fedpipe.networks.spec import ModelSpec, Shapes

Weights = list[np.ndarray]
Forward = Callable[[Any, Any, Dropout], Any]
Start = Callable[[np.random.Generator], Weights]


@dataclass(frozen=True)
class Network:
    """A model for one image shape and number of classes."""

    spec: ModelSpec
    shapes: Shapes
    # (weights, images float32 [n, h, w, c] in [0, 1], dropout) -> logits float32 [n, classes]
    forward: Forward
    start: Start | None = None  # first weights, where they are not drawn as usual

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def losses(self, labels: Any, logits: Any) -> Any:
        """The loss float32 [n] of each example, from labels int32 [n] and logits float32 [n, classes]."""
        return LOSSES.of(self.spec.loss).losses(self.spec.loss_params, labels, logits)

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """What training starts from, float32, drawn from ``rng``: Glorot-uniform kernels and zero biases.

        A model file with a function ``first_weights(spec, rng)`` decides for itself.
        """
        if self.start is not None:
            return self.start(rng)
        return [
            np.zeros(shape, np.float32) if len(shape) == 1 else glorot_uniform(shape, rng)
            for shape in self.shapes.values()
        ]

    @cached_property
    def _logits(self) -> Any:
        """The forward pass as one graph, for any weights: (weights, images uint8) -> logits."""
        weights = [tf.TensorSpec(shape, tf.float32) for shape in self.shapes.values()]
        images = tf.TensorSpec([None, *self.spec.image_shape], tf.uint8)
        forward = tf.function(
            lambda weights, images: self.forward(weights, scale(images), Dropout()), input_signature=[weights, images]
        )
        # TensorFlow counts what it traces by the line of code, and would warn of many models as of one traced often.
        return forward.get_concrete_function()

    def classifier(self, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
        """A function from uint8 images [n, h, w, c] to logits float32 [n, classes], which refuses other arrays."""
        tensors = [tf.constant(w) for w in weights]

        def classify(images: np.ndarray) -> np.ndarray:
            require_images("images", images, self.spec.image_shape)
            if not len(images):  # oneDNN's kernels refuse an empty batch
                return np.empty((0, self.spec.classes), np.float32)
            return self._logits(tensors, tf.constant(images)).numpy()

        return classify

    def predictor(self, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
        """A function from uint8 images [n, h, w, c] to class probabilities float32 [n, classes]."""
        classify = self.classifier(weights)
        return lambda images: tf.nn.softmax(classify(images)).numpy()


def network(spec: ModelSpec) -> Network:
    """The model that ``spec`` names.

    Raises:
      PipelineError: The images are too small for it, or it is a Keras model that cannot be trained here.
    """
    check_image_size(spec.model, spec.image_shape)
    model = MODELS.of(spec.model)
    if model.architecture is not None and not spec.architecture:
        spec = replace(spec, architecture=model.architecture(spec))
    own_start = None if model.first_weights is None else partial(model.first_weights, spec)
    if model.keras_model is not None:
        from fedpipe.networks.keras_model import KerasNetwork

        keras = KerasNetwork(spec, model.keras_model)
        return Network(spec, keras.shapes, keras.forward, own_start or keras.first_weights)
    shapes, forward = model.by_hand
    return Network(spec, shapes(spec), lambda w, *others: forward(spec, list(w), *others), own_start)


def check_image_size(model: str, image_shape: tuple[int, int, int]) -> None:
    """Raises PipelineError if images [h, w, c] are so small that a pooling of ``model`` would leave nothing of them."""
    height, width, _ = image_shape
    smallest = MODELS.of(model).SMALLEST_SIDE
    if min(height, width) < smallest:
        raise PipelineError(
            f"params.yaml: 'train.model' is {model}, which takes images of at least {smallest} x {smallest} pixels, "
            f"but the data set's are {height} x {width}; mcmahan_2nn takes any size"
        )


def scale(images: Any) -> Any:
    """uint8 pixels to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0
