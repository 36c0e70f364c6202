"""A bag of tokens: the mean of the tokens' embeddings, then one dense layer. Token 0 is padding and is left out.

Samples are int32 [tokens]. Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification",
https://arxiv.org/abs/1607.01759.
"""

from typing import Annotated

from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import Tensor, dense, dense_shapes
from fedpipe.networks.spec import ModelSpec, Shapes


class Params(Section):
    """``dimensions``: the length of an embedding."""

    dimensions: Annotated[int, Field(ge=1, le=10**4)] = 32


def shapes(spec: ModelSpec) -> Shapes:
    """Names and shapes of the weights, in order.

    Raises:
      PipelineError: Samples are no tokens.
    """
    tokens = spec.format.tokens
    if tokens is None:
        raise PipelineError(
            "params.yaml: 'train.model' is bag_of_tokens, which takes int32 samples, but the data set has "
            f"{spec.kind}: set 'download.idx.samples' to int32, or choose another model"
        )
    size = spec.params.dimensions
    return {"embedding/kernel": (tokens, size)} | dense_shapes("dense", size, spec.outputs)


def forward(spec: ModelSpec, w: list[Tensor], samples: Tensor, dropout: Dropout) -> Tensor:
    """Tokens as float32 [n, ...] to outputs float32 [n, outputs]."""
    tokens = tf.cast(tf.reshape(samples, [tf.shape(samples)[0], -1]), tf.int32)
    present = tf.cast(tokens > 0, tf.float32)[:, :, tf.newaxis]
    total = tf.reduce_sum(tf.gather(w[0], tokens) * present, axis=1)
    return dense(total / tf.maximum(tf.reduce_sum(present, axis=1), 1.0), w[1], w[2])
