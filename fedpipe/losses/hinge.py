"""Multi-class hinge loss.

loss = max(0, margin + max over k != label of logits_k - logits_label) (Crammer and Singer 2001, "On the Algorithmic
Implementation of Multiclass Kernel-based Vector Machines").
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf


class Params(Section):
    """``margin``: by how much the label's logit is to exceed all others."""

    margin: Positive = 1.0


def losses(params: Params, labels: Any, logits: Any) -> Any:
    """The loss float32 [n] of each example, from labels int32 [n] and logits float32 [n, classes]."""
    is_label = tf.one_hot(labels, logits.shape[-1])
    right = tf.reduce_sum(is_label * logits, axis=1)
    strongest = tf.reduce_max(logits - is_label * 1e9, axis=1)
    return tf.nn.relu(params.margin + strongest - right)
