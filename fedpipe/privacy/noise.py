"""Gaussian noise in graphs: one stateless draw for all tensors of a message together."""

import secrets
from typing import Any

from fedpipe.lazy import tf


def add_gaussian(tensors: list[Any], stddev: Any, seed: Any) -> list[Any]:
    """``tensors`` with independent noise on each entry.

    Args:
      tensors: float32, of known shapes.
      stddev: Of the noise on each entry; a scalar, or one per tensor.
      seed: int64 [2], from `Task.noise_seed`, and used for nothing else.
    """
    deviations = stddev if isinstance(stddev, list) else [stddev] * len(tensors)
    sizes = [part.shape.num_elements() for part in tensors]
    drawn = tf.split(tf.random.stateless_normal([sum(sizes)], seed, alg="philox"), sizes)
    return [
        part + deviation * tf.reshape(noise, part.shape)
        for part, deviation, noise in zip(tensors, deviations, drawn, strict=True)
    ]


def secret_key() -> tuple[int, int]:
    """A key for `Task` from the system's generator, for noise that nobody can draw again."""
    return secrets.randbits(64), secrets.randbits(64)
