"""2NN of McMahan et al. 2017: two hidden layers of 200 units with relu.

It has 199,210 weights for 28x28 gray images of ten classes.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3,
https://arxiv.org/abs/1602.05629.
"""

from math import prod
from typing import Any

from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    layers = dense_shapes("dense1", prod(spec.image_shape), 200) | dense_shapes("dense2", 200, 200)
    return layers | dense_shapes("dense3", 200, spec.outputs)


def forward(spec: ModelSpec, w: list[Tensor], images: Tensor, dropout: Dropout) -> Tensor:
    """Float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes]."""
    hidden = tf.nn.relu(dense(tf.reshape(images, [-1, prod(spec.image_shape)]), w[0], w[1]))
    return dense(tf.nn.relu(dense(hidden, w[2], w[3])), w[4], w[5])


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    kinds = tf.keras.layers
    hidden = [kinds.Dense(200, activation="relu"), kinds.Dense(200, activation="relu")]
    return [kinds.Flatten(), *hidden, kinds.Dense(spec.outputs)]
