"""A multilayer perceptron: hidden layers with relu, of as many units as the params say, for samples of any shape."""

from itertools import pairwise
from math import prod
from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Rate, Section
from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes


class Params(Section):
    """``hidden``: the units of each hidden layer; ``dropout``: the share of them that a training step leaves out."""

    hidden: Annotated[list[Annotated[int, Field(ge=1, le=10**5)]], Field(min_length=1)] = Field([64, 32])
    dropout: Rate = 0.0


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order."""
    sizes = [prod(spec.image_shape), *spec.params.hidden, spec.outputs]
    layers: Shapes = {}
    for number, (inputs, units) in enumerate(pairwise(sizes), 1):
        layers |= dense_shapes(f"dense{number}", inputs, units)
    return layers


def forward(spec: ModelSpec, w: list[Tensor], samples: Tensor, dropout: Dropout) -> Tensor:
    """Float32 samples [n, ...] to outputs float32 [n, outputs]."""
    units = tf.reshape(samples, [-1, prod(spec.image_shape)])
    *hidden, (kernel, bias) = zip(w[::2], w[1::2], strict=True)
    for inner, offset in hidden:
        units = dropout(tf.nn.relu(dense(units, inner, offset)), spec.params.dropout)
    return dense(units, kernel, bias)


def keras_layers(spec: ModelSpec) -> list[Any]:
    """The same layers of Keras."""
    kinds = tf.keras.layers
    hidden = [kinds.Dense(units, activation="relu") for units in spec.params.hidden]
    return [kinds.Flatten(), *hidden, kinds.Dense(spec.outputs)]
