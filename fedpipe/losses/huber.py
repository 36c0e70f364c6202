"""Huber's loss of the numbers of a label: squared for small errors e, linear for large ones.

loss = mean_k h(e_k), with h(e) = e^2 / 2 if |e| <= delta, else delta (|e| - delta / 2) (Huber 1964, "Robust Estimation
of a Location Parameter", https://doi.org/10.1214/aoms/1177703732).
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf

LABELS = ("numbers",)


class Params(Section):
    """``delta``: the error, in the label's own unit, from which on the loss is linear."""

    delta: Positive = 1.0


def losses(params: Params, labels: Any, outputs: Any) -> Any:
    """The loss float32 [n] of each example, from labels and outputs float32 [n, numbers]."""
    error = tf.abs(outputs - labels)
    inside = tf.minimum(error, params.delta)  # so that no gradient of a branch not taken overflows
    return tf.reduce_mean(0.5 * tf.square(inside) + params.delta * (error - inside), axis=1)
