"""A convolutional network as a stack of Keras layers: two 3x3 convolutions of 16 and 32 filters, each pooled 2x2.

It has 12,810 weights for 28x28 gray images of ten classes. ``dropout`` is of the units before the last layer. With
``batch_norm`` each convolution is followed by batch normalization; augmentation layers come first.
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.networks.spec import ModelSpec


class _Augmentation(Section):
    """Random changes of training images, with the meaning that Keras's layers of these names give to the numbers.

    ``flip`` is from left to right; ``rotation`` a share of a full turn; ``translation`` and ``zoom`` shares of the
    sides; ``contrast`` a factor's distance from 1.
    """

    flip: bool = False
    rotation: Rate = 0.0
    translation: Rate = 0.0
    zoom: Rate = 0.0
    contrast: Rate = 0.0


class Params(Section):
    """``dropout``: the share of units that a training step leaves out; ``batch_norm``, ``augmentation``: see above."""

    dropout: Rate = 0.25
    batch_norm: bool = False
    augmentation: _Augmentation = _Augmentation()


def has_batch_norm(settings: Train) -> bool:
    """As the param says."""
    return bool(settings.params_of("model").batch_norm)


def keras_model(spec: ModelSpec) -> Any:
    """The layers, from float32 images in [0, 1] to logits."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input(spec.image_shape),
            *_augmentation(spec.params.augmentation),
            *_convolution(spec, 16),
            layers.MaxPooling2D(2),
            *_convolution(spec, 32),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(spec.params.dropout),
            layers.Dense(spec.outputs),
        ]
    )


def _convolution(spec: ModelSpec, filters: int) -> list[Any]:
    layers = tf.keras.layers
    if not spec.params.batch_norm:
        return [layers.Conv2D(filters, 3, activation="relu")]
    # A bias would be subtracted with the mean.
    return [layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]


def _augmentation(params: _Augmentation) -> list[Any]:
    layers = tf.keras.layers
    wanted = [
        (params.flip, lambda: layers.RandomFlip("horizontal")),
        (params.rotation, lambda: layers.RandomRotation(params.rotation)),
        (params.translation, lambda: layers.RandomTranslation(params.translation, params.translation)),
        (params.zoom, lambda: layers.RandomZoom(params.zoom)),
        (params.contrast, lambda: layers.RandomContrast(params.contrast)),
    ]
    return [make() for is_wanted, make in wanted if is_wanted]
