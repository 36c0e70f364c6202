"""A convolutional network as a stack of Keras layers: two 3x3 convolutions of 16 and 32 filters, each pooled 2x2.

It has 12,810 weights for 28x28 gray images of ten classes. ``dropout`` is of the units before the last layer.
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.lazy import tf
from fedpipe.networks.spec import ModelSpec


class Params(Section):
    """``dropout``: the share of units that a training step leaves out."""

    dropout: Rate = 0.25


def keras_model(spec: ModelSpec) -> Any:
    """The layers, from float32 images in [0, 1] to logits."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input(spec.image_shape),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(spec.params.dropout),
            layers.Dense(spec.outputs),
        ]
    )
