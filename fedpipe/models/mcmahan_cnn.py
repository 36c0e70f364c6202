"""CNN of McMahan et al. 2017: two 5x5 convolutions of 32 and 64 filters, each pooled 2x2, and 512 units with relu.

It has 1,663,370 weights for 28x28 gray images of ten classes. ``dropout`` is of the 512 units; the paper has none.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3,
https://arxiv.org/abs/1602.05629.
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, convolution_shapes, convolve_relu_pool, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes

SMALLEST_SIDE = 4  # pixels: two poolings must leave something


class Params(Section):
    """``dropout``: the share of hidden units that a training step leaves out."""

    dropout: Rate = 0.0


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    layers = convolution_shapes("conv1", 5, spec.image_shape[2], 32) | convolution_shapes("conv2", 5, 32, 64)
    return layers | dense_shapes("dense1", _flat(spec), 512) | dense_shapes("dense2", 512, spec.outputs)


def forward(spec: ModelSpec, w: list[Tensor], images: Tensor, dropout: Dropout) -> Tensor:
    """Float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes]."""
    pooled = convolve_relu_pool(images, w[0], w[1], "SAME")
    pooled = convolve_relu_pool(pooled, w[2], w[3], "SAME")
    hidden = tf.nn.relu(dense(tf.reshape(pooled, [-1, _flat(spec)]), w[4], w[5]))
    return dense(dropout(hidden, spec.params.dropout), w[6], w[7])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    kinds = tf.keras.layers
    blocks = [
        part
        for filters in (32, 64)
        for part in (kinds.Conv2D(filters, 5, padding="same", activation="relu"), kinds.MaxPooling2D())
    ]
    return [*blocks, kinds.Flatten(), kinds.Dense(512, activation="relu"), kinds.Dense(spec.outputs)]


def _flat(spec: ModelSpec) -> int:
    height, width, _ = spec.image_shape
    return (height // 4) * (width // 4) * 64
