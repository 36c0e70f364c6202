"""Multinomial logistic regression: one dense layer from the pixels to the classes.

It has 7,850 weights for 28x28 gray images of ten classes. Its loss is convex.
"""

from math import prod
from typing import Any

from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    return dense_shapes("dense", prod(spec.image_shape), spec.outputs)


def forward(spec: ModelSpec, w: list[Tensor], images: Tensor, dropout: Dropout) -> Tensor:
    """Float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes]."""
    return dense(tf.reshape(images, [-1, prod(spec.image_shape)]), w[0], w[1])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    return [tf.keras.layers.Flatten(), tf.keras.layers.Dense(spec.outputs)]
