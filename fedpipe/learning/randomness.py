"""Seeds inside graphs: every draw of a client or of the server is a stateless one from (seed, purpose, round, client).

``SeedSequence([seed, purpose])`` gives the first two words; round and client are folded in by Philox (Salmon et al.
2011, "Parallel Random Numbers: As Easy as 1, 2, 3"). Draw with ``tf.random.stateless_*(..., alg="philox")``, which is
the same on every CPU. The draws of TFF's own aggregators (noise, rotations, sampling) come from the clock or from
global state: do not use those.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.lazy import tf
from fedpipe.seeds import Purpose

# Two words of 64 bits; or the file KEY of which KEY.ROUND has them, in 16 bytes, whenever a graph of that round runs.
NoiseKey = tuple[int, int] | Path


def seed_in_graph(seed: int, purpose: Purpose, round_number: Any, client: Any = 0) -> Any:
    """An int32 [2] seed for ``tf.random.stateless_*``.

    Args:
      seed: That of params.yaml.
      purpose: The purpose of the stream.
      round_number: int32 scalar tensor.
      client: int32 scalar tensor; 0 for the server.
    """
    words = np.random.SeedSequence([seed, int(purpose)]).generate_state(2, np.uint32).view(np.int32)
    fold_in = tf.random.experimental.stateless_fold_in
    return fold_in(fold_in(tf.constant(words), round_number, alg="philox"), client, alg="philox")


def noise_seed(seed: int, key: NoiseKey | None, round_number: Any, index: Any) -> Any:
    """An int64 [2] seed for ``tf.random.stateless_*``, for the noise of differential privacy.

    No two of them are alike: round and index take 32 bits each of the second word, where `seed_in_graph` hashes to 32
    bits, so that among some ten thousand draws two are likely to be the same.

    Args:
      seed: That of params.yaml.
      key: Two words of 64 bits instead of those that ``seed`` gives, or where they are.
      round_number: int32 scalar tensor.
      index: int32 scalar tensor: what else tells one draw of a round from another.
    """
    if isinstance(key, Path):
        first, second = tf.unstack(_words(key, round_number))
    else:
        words = np.random.SeedSequence([seed, int(Purpose.NOISE)]).generate_state(2, np.uint64) if key is None else key
        first, second = (tf.constant(word) for word in np.array(words, np.uint64).view(np.int64))
    place = tf.bitwise.left_shift(tf.cast(round_number, tf.int64), tf.constant(32, tf.int64))
    place = tf.bitwise.bitwise_or(place, tf.cast(index, tf.int64))
    return tf.stack([first, tf.bitwise.bitwise_xor(place, second)])


def noise_file(key: Path, round_number: int) -> Path:
    """The file that a graph of this round reads for a key that is a file."""
    return key.with_name(f"{key.name}.{round_number}")


def _words(key: Path, round_number: Any) -> Any:
    """int64 [2] from a file; its name depends on the round, so that no optimizer of graphs reads it beforehand."""
    path = tf.strings.join([str(key), tf.strings.as_string(round_number)], ".")
    return tf.ensure_shape(tf.io.decode_raw(tf.io.read_file(path), tf.int64), [2])
