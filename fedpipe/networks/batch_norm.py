"""Batch normalization that is trained: the statistics are inputs and outputs of a step, and no variables.

TensorFlow's own op is not used, since a graph pass may swap its kernel for oneDNN's, which adds in another order.

Source: Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", https://arxiv.org/abs/1502.03167.
"""

from typing import Any, NamedTuple

from fedpipe.lazy import tf

LOWEST = {"moving_mean": float("-inf"), "moving_variance": 0.0}  # the least value of each statistic


class Statistics(NamedTuple):
    """The moving mean and the moving variance, float32 [channels]."""

    mean: Any
    variance: Any


def is_trained(layer: Any) -> bool:
    """Whether a Keras layer is batch normalization whose weights and statistics change in training."""
    return type(layer) is tf.keras.layers.BatchNormalization and layer.trainable


def normalise(
    layer: Any, inputs: Any, gamma: Any, beta: Any, before: Statistics, *, training: bool
) -> tuple[Any, Statistics]:
    """The normalised inputs, and the statistics after the step.

    In training the batch's own mean and variance are used, and the statistics move towards them by ``layer.momentum``.

    Args:
      layer: A Keras layer for which `is_trained` holds: its axis, epsilon and momentum.
      inputs: float32 [n, ..., channels, ...].
      gamma, beta: float32 [channels]; None for 1 and 0.
      before: The statistics before the step.
      training: Whether it is a step of training.
    """
    (channels,) = layer.axis
    others = [axis for axis in range(inputs.shape.rank) if axis != channels]
    shape = [-1 if axis == channels else 1 for axis in range(inputs.shape.rank)]

    def spread(vector: Any) -> Any:
        return None if vector is None else tf.reshape(vector, shape)

    if not training:
        mean, variance = (spread(part) for part in before)
        outputs = tf.nn.batch_normalization(inputs, mean, variance, spread(beta), spread(gamma), layer.epsilon)
        return outputs, before
    mean, variance = tf.nn.moments(inputs, others)
    outputs = tf.nn.batch_normalization(
        inputs, spread(mean), spread(variance), spread(beta), spread(gamma), layer.epsilon
    )
    if layer.fused:  # as Keras: of images the moving variance is that of a sample, not of a population
        count = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
        variance = variance * count / tf.maximum(count - 1, 1.0)
    after = (
        layer.momentum * old + (1 - layer.momentum) * new for old, new in zip(before, (mean, variance), strict=True)
    )
    return outputs, Statistics(*after)
