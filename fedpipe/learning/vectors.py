"""Tensors as one vector and back, their bytes, and the Walsh-Hadamard transform of a vector."""

import math
from typing import Any

from fedpipe.lazy import tf
from fedpipe.learning.interface import Tensors


def joined(tensors: Tensors) -> Any:
    """All entries of ``tensors``, one tensor after the other: float32 [entries]."""
    return tf.concat([tf.reshape(part, [-1]) for part in tf.nest.flatten(tensors)], 0)


def parted(vector: Any, like: Tensors) -> Tensors:
    """The opposite of `joined`: ``vector`` in the shapes and the structure of ``like``."""
    leaves = tf.nest.flatten(like)
    parts = tf.split(vector, [leaf.shape.num_elements() for leaf in leaves])
    return tf.nest.pack_sequence_as(like, [tf.reshape(p, leaf.shape) for p, leaf in zip(parts, leaves, strict=True)])


def norm(tensors: Tensors) -> Any:
    """The L2 norm over all entries of ``tensors``, float32."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(part)) for part in tf.nest.flatten(tensors)]))


def bytes_of(tensors: Tensors) -> int:
    """The bytes of ``tensors``; a side whose length is not known counts as one row."""
    leaves = tf.nest.flatten(tensors)
    return sum(math.prod(side or 1 for side in leaf.shape) * leaf.dtype.size for leaf in leaves)


def hadamard(vector: Any) -> Any:
    """H v / sqrt(n) for a vector of n = 2^k entries, with H the Walsh-Hadamard matrix. It is its own inverse.

    Each of the k steps adds and subtracts the two halves and interleaves the results; after k steps every entry is at
    its place.
    """
    size = vector.shape[0]
    for _ in range(size.bit_length() - 1):
        first, second = tf.split(vector, 2)
        vector = tf.reshape(tf.stack([first + second, first - second], axis=1), [size])
    return vector / math.sqrt(size)


def random_signs(size: int, seed: Any) -> Any:
    """-1 or 1 for each of ``size`` entries, float32, from a seed int32 [2]."""
    bits = tf.random.stateless_uniform([size], seed, 0, 2, tf.int32, alg="philox")
    return 1 - 2 * tf.cast(bits, tf.float32)
