"""Squared error of the class probabilities, the Brier score.

loss = sum_k (softmax(logits)_k - y_k)^2, where y is 1 at the label and 0 elsewhere (Brier 1950, "Verification of
Forecasts Expressed in Terms of Probability").
"""

from typing import Any

from fedpipe.contracts.choice import NoParams
from fedpipe.lazy import tf


def losses(params: NoParams, labels: Any, logits: Any) -> Any:
    """The loss float32 [n] of each example, from labels int32 [n] and logits float32 [n, classes]."""
    wanted = tf.one_hot(labels, logits.shape[-1])
    return tf.reduce_sum(tf.math.squared_difference(tf.nn.softmax(logits), wanted), axis=1)
