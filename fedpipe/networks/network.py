"""A model, built from its file: shapes, first weights, forward pass, loss."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fedpipe.contracts.model import LOSSES, METRICS, MODELS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.arrays import require_kind
from fedpipe.networks.augmentation import Augmentation
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.initialisation import glorot_uniform
from fedpipe.networks.spec import ModelSpec, Shapes
from fedpipe.samples.kind import Shape

Weights = list[np.ndarray]
Forward = Callable[[Any, Any, Dropout], Any]
TrainForward = Callable[[Any, Any, Dropout, Augmentation], tuple[Any, list[Any]]]
Start = Callable[[np.random.Generator], Weights]


@dataclass(frozen=True)
class Network:
    """A model for one kind of samples and labels, such as images of one shape and some classes."""

    spec: ModelSpec
    shapes: Shapes
    # (weights, samples float32, such as images [n, h, w, c] in [0, 1], dropout) -> outputs float32 [n, outputs], which
    # are a logit for each class, or the numbers of a label
    forward: Forward
    start: Start | None = None  # first weights, where they are not drawn as usual
    # Weights that no gradient moves, but each step of training (batch normalization): the least value of each, by name,
    # in their order in `shapes`.
    statistics: Mapping[str, float] = field(default_factory=dict)
    batch_norm: frozenset[str] = frozenset()  # the names of all weights of batch normalization that is trained
    # `forward` in a step of training, where it is another: the outputs, and the statistics after the step
    own_train_forward: TrainForward | None = None

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def scaled(self, samples: Any) -> Any:
        """Samples of the data set as the model takes them, float32: `scale`, and uint8 ones standardised, if asked."""
        values, standard = scale(samples), self.spec.format.standard
        if standard is None or self.spec.format.samples != "uint8":
            return values
        means, deviations = (tf.constant(part, tf.float32) for part in (standard.means, standard.deviations))
        return (values - means) / deviations

    def train_forward(
        self, weights: list[Any], samples: Any, dropout: Dropout, augmentation: Augmentation
    ) -> tuple[Any, list[Any]]:
        """`forward` in a step of training: the outputs, and the statistics after it, in their order."""
        if self.own_train_forward is None:
            return self.forward(weights, samples, dropout), []
        return self.own_train_forward(weights, samples, dropout, augmentation)

    def trained(self, tensors: list[Any]) -> list[Any]:
        """Of one tensor for each weight, those of the weights that gradients move."""
        return [tensor for name, tensor in zip(self.shapes, tensors, strict=True) if name not in self.statistics]

    def statistics_of(self, tensors: list[Any]) -> list[Any]:
        """The others, in order."""
        return [tensor for name, tensor in zip(self.shapes, tensors, strict=True) if name in self.statistics]

    def whole(self, trained: list[Any], statistics: list[Any]) -> list[Any]:
        """The opposite of `trained`: one tensor for each weight, in order."""
        parts: dict[bool, Iterator[Any]] = {False: iter(trained), True: iter(statistics)}
        return [next(parts[name in self.statistics]) for name in self.shapes]

    def averaged_statistics(self, weights: list[Any], update: list[Any]) -> list[Any]:
        """The statistics after a mean ``update`` of the clients: a mean of theirs, as rounding allows.

        Both arguments have one tensor for each weight.
        """
        before, change = self.statistics_of(weights), self.statistics_of(update)
        # Variances that rounding takes below 0 would have no root.
        lowest = self.statistics.values()
        return [tf.maximum(old - moved, least) for old, moved, least in zip(before, change, lowest, strict=True)]

    def losses(self, labels: Any, outputs: Any) -> Any:
        """The loss float32 [n] of each example, from labels as `label_tensor` gives them and outputs of `forward`."""
        return LOSSES.of(self.spec.loss).losses(self.spec.loss_params, labels, outputs)

    def goodness(self, labels: Any, outputs: Any) -> Any:
        """How right each output is, [n], the mean of which is the column ``accuracy``.

        Of classes 1 for a hit and 0 for a miss, int64. Of numbers 1 - (y - prediction)^2 / variance, float32, the mean
        over the numbers of a label; the mean over samples is R^2, with the variance of the training labels.
        """
        numbers = self.spec.format.numbers
        if numbers is None:
            return METRICS.of("accuracy").per_example(labels, outputs)
        squares = tf.math.squared_difference(self.predictions(outputs), labels)
        return 1 - tf.reduce_mean(squares / tf.constant(numbers.variances, tf.float32), axis=1)

    def measured(self, metric: str, labels: Any, outputs: Any) -> Any:
        """A metric of each example [n], by the name of its file."""
        is_of_numbers = self.spec.format.numbers is not None
        return METRICS.of(metric).per_example(labels, self.predictions(outputs) if is_of_numbers else outputs)

    def predictions(self, outputs: Any) -> Any:
        """What outputs [n, outputs] say: class probabilities, or the numbers of a label."""
        if self.spec.format.numbers is None:
            return tf.nn.softmax(outputs)
        link = LOSSES.of(self.spec.loss).predictions
        return outputs if link is None else link(self.spec.loss_params, outputs)

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """Initial weights, float32, drawn from ``rng``: Glorot-uniform kernels and zero biases.

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
        """The forward pass as one graph, for any weights: (weights, samples) -> outputs."""
        weights = [tf.TensorSpec(shape, tf.float32) for shape in self.shapes.values()]
        images = tf.TensorSpec([None, *self.spec.image_shape], self.spec.format.samples)
        forward = tf.function(
            lambda weights, images: self.forward(weights, self.scaled(images), Dropout()),
            input_signature=[weights, images],
        )
        # TensorFlow counts what it traces by the line of code, and would warn of many models as of one traced often.
        return forward.get_concrete_function()

    def classifier(self, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
        """A function from samples, such as uint8 images [n, h, w, c], to outputs float32 [n, outputs].

        Arrays of another type or shape are rejected.
        """
        tensors = [tf.constant(w) for w in weights]

        def classify(images: np.ndarray) -> np.ndarray:
            require_kind(images, self.spec.kind)
            if not len(images):  # oneDNN's kernels refuse an empty batch
                return np.empty((0, self.spec.outputs), np.float32)
            return self._logits(tensors, tf.constant(images)).numpy()

        return classify

    def predictor(self, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
        """A function from samples to class probabilities float32 [n, classes], or to the numbers of a label."""
        classify = self.classifier(weights)
        return lambda images: tf.convert_to_tensor(self.predictions(classify(images))).numpy()


def network(spec: ModelSpec) -> Network:
    """The model that ``spec`` names.

    Raises:
      PipelineError: The samples or the labels do not fit it, or it is a Keras model that cannot be trained here.
    """
    check_image_size(spec.model, spec.image_shape)
    _check_loss(spec)
    model = MODELS.of(spec.model)
    if model.architecture is not None and not spec.architecture:
        spec = replace(spec, architecture=model.architecture(spec))
    if model.constants is not None and spec.constants is None:
        spec = replace(spec, constants=model.constants(spec))
    own_start = None if model.first_weights is None else partial(model.first_weights, spec)
    if model.keras_model is not None:
        from fedpipe.networks.keras_model import KerasNetwork

        keras = KerasNetwork(spec, model.keras_model)
        return Network(
            spec,
            keras.shapes,
            keras.forward,
            own_start or keras.first_weights,
            keras.statistics,
            keras.batch_norm,
            keras.train_forward,
        )
    shapes, forward = model.by_hand
    return Network(spec, shapes(spec), lambda w, *others: forward(spec, list(w), *others), own_start)


def check_image_size(model: str, image_shape: Shape) -> None:
    """Raises PipelineError if samples are no images [h, w, c], or so small that a pooling would leave nothing of them.

    A model without poolings takes samples of any shape.
    """
    smallest = MODELS.of(model).SMALLEST_SIDE
    if smallest > 1 and len(image_shape) != 3:
        raise PipelineError(
            f"params.yaml: 'train.model' is {model}, which takes images, but the data set's samples have the shape "
            f"{image_shape}; logistic_regression, linear_regression, mlp and mcmahan_2nn take any shape"
        )
    height, width = (*image_shape, 1)[:2]
    if min(height, width) < smallest:
        raise PipelineError(
            f"params.yaml: 'train.model' is {model}, which takes images of at least {smallest} x {smallest} pixels, "
            f"but the data set's are {height} x {width}; mcmahan_2nn takes any size"
        )


def _check_loss(spec: ModelSpec) -> None:
    labels = spec.kind.label_kind
    if labels not in LOSSES.of(spec.loss).LABELS:
        fitting = [name for name, loss in LOSSES.all() if labels in loss.LABELS]
        raise PipelineError(
            f"params.yaml: 'train.loss' is {spec.loss}, but the data set's labels are {labels}: choose one of "
            f"{', '.join(fitting)}"
        )
    if spec.loss == "binary_cross_entropy" and spec.classes > 2:
        raise PipelineError(
            f"params.yaml: 'train.loss' is binary_cross_entropy, which is for 2 classes, and the data set has "
            f"{spec.classes}: set it to cross_entropy"
        )


def scale(samples: Any) -> Any:
    """Samples as models take them, float32: uint8 pixels in [0, 1], other numbers as they are."""
    scaled = tf.cast(samples, tf.float32)
    return scaled / 255.0 if samples.dtype == tf.uint8 else scaled


def label_tensor(labels: Any) -> Any:
    """Labels as losses take them: classes int32 [n], numbers float32 [n, numbers] as they are."""
    return tf.cast(labels, tf.int32) if labels.dtype == tf.uint8 else labels
