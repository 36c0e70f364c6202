"""The share of examples whose largest logit is the label's. It is always measured."""

from typing import Any

from fedpipe.lazy import tf


def per_example(labels: Any, logits: Any) -> Any:
    """1 for a hit and 0 for a miss: int64 [n], from labels int32 [n] and logits float32 [n, classes]."""
    return tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels), tf.int64)
