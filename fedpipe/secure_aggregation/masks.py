"""Masks: the keystream of AES-256 in counter mode as little-endian integers, added to words in place.

A key is for one mask, so that the counter starts at 0. The words are treated a block at a time with all masks, so that
they stay in the processor's cache.

Source: NIST SP 800-38A, section 6.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedpipe.secure_aggregation.vector import Vector

KEY_BYTES = 64  # a key of 32 bytes for weights, and one for quantities
_BLOCK = bytes(1 << 16)  # zeros, whose encryption is the keystream


@dataclass(frozen=True)
class Mask:
    """One mask of a vector.

    Attributes:
      key: 64 bytes, which nothing else may use.
      subtract: Whether it is subtracted.
    """

    key: bytes
    subtract: bool = False


def add_masks(vector: Vector, masks: Sequence[Mask]) -> None:
    """Adds all masks in place, modulo the words' size."""
    if any(len(mask.key) != KEY_BYTES for mask in masks):
        raise ValueError(f"a mask's key has {KEY_BYTES} bytes")
    half = KEY_BYTES // 2
    _add(vector.weights, [(mask.key[:half], mask.subtract) for mask in masks])
    _add(vector.quantities, [(mask.key[half:], mask.subtract) for mask in masks])


def _add(words: np.ndarray, keys: Sequence[tuple[bytes, bool]]) -> None:
    if not len(words):
        return
    zeros = _BLOCK[: words.nbytes]
    out, step = bytearray(len(zeros)), len(zeros) // words.itemsize
    stream = np.frombuffer(out, words.dtype)
    ciphers = [
        (Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor(), np.subtract if subtract else np.add)
        for key, subtract in keys
    ]
    for start in range(0, len(words), step):
        part = words[start : start + step]
        masked = stream[: len(part)]
        for cipher, operation in ciphers:
            cipher.update_into(zeros, out)
            operation(part, masked, out=part)
