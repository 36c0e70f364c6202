"""Binary cross-entropy, in nats: of two classes, or of several answers of yes or no.

Two classes: loss = log(1 + exp(-(2 y - 1) d)), where y is 0 or 1 and d is the second logit less the first; it equals
`cross_entropy`. Numbers from 0 to 1, one for each question: loss = mean_k (-y_k log p_k - (1 - y_k) log(1 - p_k)), with
p the sigmoid of the outputs.
"""

from typing import Any

from fedpipe.contracts.choice import NoParams
from fedpipe.lazy import tf

LABELS = ("classes", "numbers")


def losses(params: NoParams, labels: Any, outputs: Any) -> Any:
    """The loss float32 [n] of each example, from labels int32 [n] or float32 [n, numbers], and outputs [n, outputs]."""
    if labels.dtype.is_floating:
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs), axis=1)
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), outputs[:, 1] - outputs[:, 0])


def predictions(params: NoParams, outputs: Any) -> Any:
    """Probabilities of yes, float32 [n, numbers]."""
    return tf.nn.sigmoid(outputs)
