"""Linear regression: each number of a label is a weighted sum of a sample's values, plus a constant.

With `squared_error` it is least squares, whose loss is convex. (`logistic_regression` is its twin for classes.)
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


def forward(spec: ModelSpec, w: list[Tensor], samples: Tensor, dropout: Dropout) -> Tensor:
    """Float32 samples [n, ...] to outputs float32 [n, outputs]."""
    return dense(tf.reshape(samples, [-1, prod(spec.image_shape)]), w[0], w[1])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    return [tf.keras.layers.Flatten(), tf.keras.layers.Dense(spec.outputs)]
