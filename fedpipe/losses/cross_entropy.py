"""Cross-entropy of the softmax of the logits, in nats.

loss = -sum_k q_k log softmax(logits)_k, where q is 1 at the label. With ``label_smoothing`` s, q is 1 - s + s / classes
at the label and s / classes elsewhere (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
Vision", section 7, https://arxiv.org/abs/1512.00567).
"""

from typing import Any

from fedpipe.config.section import Rate, Section
from fedpipe.lazy import tf


class Params(Section):
    """``label_smoothing``: the share of the label's probability that all classes get."""

    label_smoothing: Rate = 0.0


def losses(params: Params, labels: Any, logits: Any) -> Any:
    """The loss of each example.

    Args:
      params: This file's section of params.yaml.
      labels: int32 [n].
      logits: float32 [n, classes].

    Returns:
      float32 [n].
    """
    if not params.label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    classes = logits.shape[-1]
    wanted = tf.one_hot(labels, classes) * (1 - params.label_smoothing) + params.label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
