"""Shared by the aggregators that need all updates of a cohort at once: rows, one per client, and their distances.

Rows stay in the cohort's order, so results depend on nothing else. They take clients x weights x 4 bytes;
fedpipe/runtime/memory_check.py refuses before the first round what does not fit.
"""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.learning.interface import Tensors


def row(update: Tensors, weight: Any) -> Tensors:
    """What an aggregator's `encode` returns: a row for a client with a weight, none for one with weight 0."""
    rows = tf.cast(weight > 0, tf.int32)
    return tf.nest.map_structure(lambda part: tf.repeat(part[tf.newaxis], rows, axis=0), update)


def count(collected: Tensors) -> Any:
    """The number of rows, int32."""
    return tf.shape(tf.nest.flatten(collected)[0])[0]


def mean_of(collected: Tensors, chosen: Any) -> Tensors:
    """The mean of the rows with the numbers ``chosen`` int32 [k]; zeros for none."""
    number = tf.cast(tf.size(chosen), tf.float32)

    def mean(part: Any) -> Any:
        return tf.math.divide_no_nan(tf.reduce_sum(tf.gather(part, chosen), axis=0), number)

    return tf.nest.map_structure(mean, collected)


def squared_distances_to(collected: Tensors, point: Tensors) -> Any:
    """The squared L2 distance of each row from ``point``: float32 [rows]."""
    pairs = zip(tf.nest.flatten(collected), tf.nest.flatten(point), strict=True)
    return tf.add_n([tf.reduce_sum(tf.square(part - at), range(1, len(part.shape))) for part, at in pairs])


def squared_distances(collected: Tensors) -> Any:
    """The squared L2 distance of each row from each other: float32 [rows, rows].

    Row by row, not by a product of matrices: that loses the distances of updates that lie close together.
    """

    def of_row(index: Any) -> Any:
        return squared_distances_to(collected, tf.nest.map_structure(lambda part: part[index], collected))

    def each() -> Any:
        rows = tf.range(count(collected))
        return tf.map_fn(of_row, rows, fn_output_signature=tf.TensorSpec([None]), parallel_iterations=1)

    return tf.cond(count(collected) > 0, each, lambda: tf.zeros([0, 0]))


def krum_scores(distances: Any, counted: Any, attackers: int) -> Any:
    """Krum's score of each row: the sum of the squared distances from its n - f - 2 nearest (at least one).

    Args:
      distances: float32 [rows, rows].
      counted: bool [rows]: the n rows that count. Others have the score infinity.
      attackers: f.
    """
    number = tf.reduce_sum(tf.cast(counted, tf.int32))
    near = tf.minimum(tf.maximum(number - attackers - 2, 1), tf.maximum(number - 1, 0))
    both = counted[:, tf.newaxis] & counted[tf.newaxis] & ~tf.eye(tf.size(counted), dtype=tf.bool)
    ordered = tf.sort(tf.where(both, distances, float("inf")), axis=1)
    return tf.where(counted, tf.reduce_sum(ordered[:, :near], axis=1), float("inf"))
