"""The baseline recipe's CNN: Conv2D(32, 3x3, relu), MaxPooling2D(2x2), Flatten, Dense(classes).

It has 54,410 weights for 28x28 gray images of ten classes.
"""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, convolution_shapes, convolve_relu_pool, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes

SMALLEST_SIDE = 4  # pixels: a 3x3 convolution without padding and one pooling must leave something
_FILTERS = 32


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    return convolution_shapes("conv", 3, spec.image_shape[2], _FILTERS) | dense_shapes(
        "dense", _flat(spec), spec.outputs
    )


def forward(spec: ModelSpec, w: list[Tensor], images: Tensor, dropout: Dropout) -> Tensor:
    """Float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes]."""
    pooled = convolve_relu_pool(images, w[0], w[1], "VALID")
    return dense(tf.reshape(pooled, [-1, _flat(spec)]), w[2], w[3])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    kinds = tf.keras.layers
    convolution = kinds.Conv2D(_FILTERS, 3, activation="relu")
    return [convolution, kinds.MaxPooling2D(), kinds.Flatten(), kinds.Dense(spec.outputs)]


def _flat(spec: ModelSpec) -> int:
    height, width, _ = spec.image_shape
    return ((height - 2) // 2) * ((width - 2) // 2) * _FILTERS
