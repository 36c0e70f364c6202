"""Squared error: of the class probabilities, which is the Brier score, or of the numbers of a label.

Classes: loss = sum_k (softmax(logits)_k - y_k)^2, where y is 1 at the label and 0 elsewhere (Brier 1950, "Verification
of Forecasts Expressed in Terms of Probability"). Numbers: loss = mean_k (output_k - y_k)^2.
"""

from typing import Any

from fedpipe.contracts.choice import NoParams
from fedpipe.lazy import tf

LABELS = ("classes", "numbers")


def losses(params: NoParams, labels: Any, logits: Any) -> Any:
    """The loss float32 [n] of each example, from labels int32 [n] or float32 [n, numbers], and outputs [n, outputs]."""
    if labels.dtype.is_floating:
        return tf.reduce_mean(tf.math.squared_difference(logits, labels), axis=1)
    wanted = tf.one_hot(labels, logits.shape[-1])
    return tf.reduce_sum(tf.math.squared_difference(tf.nn.softmax(logits), wanted), axis=1)
