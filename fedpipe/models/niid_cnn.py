"""CNN of NIID-Bench: 5x5 convolutions of 6 and 16 filters without padding, each pooled 2x2, and dense 120, 84.

It has 44,426 weights for 28x28 gray images of ten classes.

Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study", section 5,
https://arxiv.org/abs/2102.02079.
"""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, convolution_shapes, convolve_relu_pool, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes

SMALLEST_SIDE = 16  # pixels: two convolutions without padding, each with a pooling, must leave something


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    layers = convolution_shapes("conv1", 5, spec.image_shape[2], 6) | convolution_shapes("conv2", 5, 6, 16)
    layers |= dense_shapes("dense1", _flat(spec), 120) | dense_shapes("dense2", 120, 84)
    return layers | dense_shapes("dense3", 84, spec.outputs)


def forward(spec: ModelSpec, w: list[Tensor], images: Tensor, dropout: Dropout) -> Tensor:
    """Float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes]."""
    pooled = convolve_relu_pool(images, w[0], w[1], "VALID")
    pooled = convolve_relu_pool(pooled, w[2], w[3], "VALID")
    hidden = tf.nn.relu(dense(tf.reshape(pooled, [-1, _flat(spec)]), w[4], w[5]))
    return dense(tf.nn.relu(dense(hidden, w[6], w[7])), w[8], w[9])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    kinds = tf.keras.layers
    blocks = [
        part for filters in (6, 16) for part in (kinds.Conv2D(filters, 5, activation="relu"), kinds.MaxPooling2D())
    ]
    hidden = [kinds.Dense(120, activation="relu"), kinds.Dense(84, activation="relu")]
    return [*blocks, kinds.Flatten(), *hidden, kinds.Dense(spec.outputs)]


def _flat(spec: ModelSpec) -> int:
    height, width = (((side - 4) // 2 - 4) // 2 for side in spec.image_shape[:2])
    return height * width * 16
