"""Each entry of an update is sent as one of 2^bits levels between the least and the largest entry of its tensor.

    step = (max - min) / (2^bits - 1);   level = (u - min) / step, rounded;   decoded = min + level x step

Stochastic rounding takes the level above with the probability of what is cut off, so that the decoded update is right
on average; the nearest level has a smaller error, which does not average out.

With ``rotate`` a tensor is first rotated: entries get random signs, zeros are added up to a power of two, and the
Walsh-Hadamard transform mixes them, so that no large entry makes all steps large. The server rotates it back.

Sources: Konečný et al. 2016, "Federated Learning: Strategies for Improving Communication Efficiency", section 3 (both
rounding and rotation), https://arxiv.org/abs/1610.05492; Suresh et al. 2017, "Distributed Mean Estimation with Limited
Communication", sections 2 and 3, https://arxiv.org/abs/1611.00429.

Bytes: the levels, packed, of each tensor (with the added zeros, if rotated); 8 for its min and max; 8 for the seed of
the signs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import hadamard, random_signs

_RANGE_BYTES, _SEED_BYTES = 8, 8  # two float32; two int32


class Params(Section):
    """``bits`` of an entry; ``rounding`` of its level; ``rotate``: whether entries are mixed before."""

    bits: Annotated[int, Field(ge=1, le=16)] = 8
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    rotate: bool = False


def compress(task: Task, update: Tensors, client: Client, residual: Tensors) -> tuple[Tensors, Tensors, Any]:
    """The update as the server decodes it, no residual, and its bytes."""
    params, seed = task.compressor, task.compression_seed(client)
    decoded, size = [], _SEED_BYTES if params.rotate else 0
    for index, part in enumerate(tf.nest.flatten(update)):
        own = tf.random.experimental.stateless_fold_in(seed, index, alg="philox")
        vector = tf.reshape(part, [-1])
        if params.rotate:
            vector, packed = _rotated(vector, params, own)
        else:
            packed = vector.shape[0]
            vector = _quantised(vector, params, own)
        decoded.append(tf.reshape(vector, part.shape))
        size += -(-packed * params.bits // 8) + _RANGE_BYTES
    return tf.nest.pack_sequence_as(update, decoded), residual, tf.constant(size, tf.int64)


def _rotated(vector: Any, params: Params, seed: Any) -> tuple[Any, int]:
    """``vector`` quantised in the rotated space, and how many entries it has there."""
    length = vector.shape[0]
    padded = 1 << (length - 1).bit_length()
    signs = random_signs(padded, tf.random.experimental.stateless_fold_in(seed, 1, alg="philox"))
    mixed = hadamard(tf.pad(vector, [[0, padded - length]]) * signs)
    return (hadamard(_quantised(mixed, params, seed)) * signs)[:length], padded


def _quantised(vector: Any, params: Params, seed: Any) -> Any:
    """The server's decoded ``vector``."""
    least, levels = tf.reduce_min(vector), 2**params.bits - 1
    step = (tf.reduce_max(vector) - least) / levels
    exact = tf.math.divide_no_nan(vector - least, step)
    if params.rounding == "nearest":
        level = tf.round(exact)
    else:
        level = tf.floor(exact + tf.random.stateless_uniform(tf.shape(vector), seed, alg="philox"))
    return least + tf.clip_by_value(level, 0.0, float(levels)) * step
