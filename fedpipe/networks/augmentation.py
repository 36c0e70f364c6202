"""Keras's augmentation layers by stateless draws, so that a training step changes images alike wherever it runs.

Each layer has Keras's own formula; only its draws are others. In evaluation the layers do what Keras has them do then:
nothing, but for a crop of the middle in RandomCrop.
"""

from collections.abc import Sequence
from typing import Any

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf

# Keras 2.14's layers whose outputs have the shape that their description says.
SUPPORTED = (
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "RandomCrop",
    "RandomContrast",
    "RandomBrightness",
)


def is_augmentation(layer: Any) -> bool:
    """Whether a Keras layer is one of `SUPPORTED`."""
    return type(layer) in [getattr(tf.keras.layers, name) for name in SUPPORTED]


def without_augmentation(model: Any) -> Any:
    """A Keras model as it is in evaluation, with the same weights; Keras itself augments whenever it is called.

    Raises:
      PipelineError: An augmentation layer is in a layer that Keras does not copy part by part.
    """

    def copied(layer: Any) -> Any:
        kinds = tf.keras.layers
        if type(layer) is kinds.RandomCrop:
            return kinds.Resizing(layer.height, layer.width, crop_to_aspect_ratio=True, name=layer.name)
        if is_augmentation(layer):
            return kinds.Activation("linear", name=layer.name)
        return type(layer).from_config(layer.get_config())

    def augmented(model: Any) -> list[str]:
        return [part.name for part in model.submodules if is_augmentation(part)]

    if not augmented(model):
        return model
    made = tf.keras.models.clone_model(model, clone_function=copied)
    if left := augmented(made):
        raise PipelineError(
            f"the layer '{left[0]}' augments images inside of a model in the model, and would in an export, too: put "
            "it into the outer model, or choose the format savedmodel, tflite or onnx"
        )
    made.set_weights(model.get_weights())
    return made


class Augmentation:
    """The draws of one forward pass; without a seed, as in evaluation, nothing is drawn."""

    def __init__(self, seed: Any = None) -> None:
        """``seed``: int32 [2], another one for each step of each client."""
        self._seed, self._calls = seed, 0

    @property
    def training(self) -> bool:
        """Whether it changes images."""
        return self._seed is not None

    def apply(self, layer: Any, images: Any) -> Any:
        """``images`` float32 [n, h, w, c] after a layer of `SUPPORTED`."""
        kind = type(layer).__name__
        if self.training and kind == "RandomFlip":
            return self._flipped(images, horizontal=layer.horizontal, vertical=layer.vertical)
        if self.training and kind == "RandomContrast":
            factor = self.random_uniform([], 1 - layer.lower, 1 + layer.upper)  # one for the batch, as in Keras
            return tf.ensure_shape(tf.clip_by_value(tf.image.adjust_contrast(images, factor), 0, 255), images.shape)
        if kind == "RandomCrop":
            return self._cropped(images, layer.height, layer.width)
        own = layer._random_generator
        vars(layer)["_random_generator"] = self
        try:
            return layer.call(images, training=self.training)
        finally:
            vars(layer)["_random_generator"] = own

    def random_uniform(
        self, shape: Sequence[Any], minval: Any = 0.0, maxval: Any = None, dtype: Any = None, nonce: Any = None
    ) -> Any:
        """Draws in the place of Keras's generator, and by its signature: from [minval, maxval)."""
        if self._seed is None:  # of a branch that is not taken
            return tf.zeros(shape, dtype or tf.float32)
        self._calls += 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._calls, alg="philox")
        return tf.random.stateless_uniform(shape, seed, minval, maxval, dtype or tf.float32, alg="philox")

    def _cropped(self, images: Any, height: int, width: int) -> Any:
        """A part of that size; of images that are smaller, and in evaluation, Keras takes the middle and resizes it."""
        rows, columns = images.shape[1] - height, images.shape[2] - width
        if not self.training or rows < 0 or columns < 0:
            return tf.keras.preprocessing.image.smart_resize(images, [height, width])
        drawn = self.random_uniform([2], 0, tf.int32.max, tf.int32)
        top, left = drawn[0] % (rows + 1), drawn[1] % (columns + 1)
        part = images[:, top : top + height, left : left + width]
        return tf.ensure_shape(part, [images.shape[0], height, width, images.shape[3]])

    def _flipped(self, images: Any, *, horizontal: bool, vertical: bool) -> Any:
        for is_flipped, axis in ((horizontal, 2), (vertical, 1)):
            if is_flipped:
                drawn = self.random_uniform([tf.shape(images)[0], 1, 1, 1])
                images = tf.where(drawn < 0.5, tf.reverse(images, [axis]), images)
        return images
