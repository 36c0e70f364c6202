"""The mean absolute error of the predicted numbers, in the label's own unit; of several numbers, the mean over them."""

from typing import Any

from fedpipe.lazy import tf

LABELS = ("numbers",)


def per_example(labels: Any, predicted: Any) -> Any:
    """The absolute error float32 [n], from labels and predictions float32 [n, numbers]."""
    return tf.reduce_mean(tf.abs(predicted - labels), axis=1)
