"""What a client does in a round: SGD over its own shard, from the global weights, and nothing else leaves it.

The loop is a plain while loop over the shard in memory. A tf.data iterator a batch and a serialized data set a client,
as in TFF's stock simulation, cost several times the arithmetic.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedpipe.config import Train
from fedpipe.datasets.shards import Shards, read_shard_in_graph
from fedpipe.models.zoo import ModelSpec, architecture, scale

Sums = OrderedDict[str, tf.Tensor]


def weights_type(spec: ModelSpec) -> tff.Type:
    """The TFF type of the model's weights: all trainable, float32."""
    shapes = architecture(spec).shapes.values()
    tensors = tuple(tff.TensorType(np.float32, shape) for shape in shapes)
    container = tff.learning.models.ModelWeights
    return tff.StructWithPythonType(
        [
            ("trainable", tff.StructWithPythonType(tensors, tuple)),
            ("non_trainable", tff.StructWithPythonType([], tuple)),
        ],
        container,
    )


def build_open_shard(folder: Path) -> tff.Computation:
    """``int32 client id -> sequence of one element``, the client's whole shard, read on the worker.

    The sequence is TFF's contract for client data; its single element is the shard in memory.
    """

    shards = Shards.open(folder)

    @tff.tensorflow.computation(np.int32)
    def open_shard(client):  # type: ignore[no-untyped-def]
        return tf.data.Dataset.from_tensors(read_shard_in_graph(shards, client))

    return open_shard


def build_client_work(
    spec: ModelSpec, settings: Train, optimizer: tff.learning.optimizers.Optimizer, shard_type: tff.Type
) -> tff.learning.templates.ClientWorkProcess:
    """The client work of federated averaging (McMahan et al. 2017, algorithm 1, ClientUpdate).

    A client's update is its initial weights less its final ones. A client whose update or loss is not finite
    counts as ``non_finite`` and contributes nothing else.
    """
    weights_spec = weights_type(spec)

    @tff.tensorflow.computation(weights_spec, shard_type)
    def client_update(weights, shard):  # type: ignore[no-untyped-def]
        images, labels = shard.get_single_element()
        update, sums = _train(spec, settings, optimizer, list(weights.trainable), images, labels)
        examples = tf.cast(tf.size(labels), tf.float32)
        weight = examples if settings.client_weighting == "examples" else tf.cast(examples > 0, tf.float32)
        update, weight, sums = _leave_out_non_finite(update, weight, sums)
        return tff.learning.templates.ClientResult(update=tuple(update), update_weight=weight), sums

    @tff.federated_computation
    def initialize():  # type: ignore[no-untyped-def]
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType((), tff.SERVER),
        tff.FederatedType(weights_spec, tff.CLIENTS),
        tff.FederatedType(shard_type, tff.CLIENTS),
    )
    def next_round(state, weights, shards):  # type: ignore[no-untyped-def]
        result, sums = tff.federated_map(client_update, (weights, shards))
        return tff.templates.MeasuredProcessOutput(state, result, tff.federated_sum(sums))

    return tff.learning.templates.ClientWorkProcess(initialize, next_round)


def _train(
    spec: ModelSpec,
    settings: Train,
    optimizer: tff.learning.optimizers.Optimizer,
    initial: list[tf.Tensor],
    images: tf.Tensor,
    labels: tf.Tensor,
) -> tuple[list[tf.Tensor], Sums]:
    """Trains ``local_epochs`` over the shard, in its order; the last batch of an epoch may be smaller.

    Returns:
      The update (initial less final weights), and sums over the examples seen, each under the weights before its step.
    """
    forward = architecture(spec).forward
    samples = tf.size(labels)
    batches = -(-samples // settings.batch_size)

    def step(index: tf.Tensor, weights: Any, state: Any, loss_sum: tf.Tensor, correct: tf.Tensor) -> tuple[Any, ...]:
        start = (index % batches) * settings.batch_size
        batch = slice(start, start + settings.batch_size)
        y = tf.cast(labels[batch], tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = forward(weights, scale(images[batch]))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, weights)
        state, weights = optimizer.next(state, tuple(weights), tuple(gradients))
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
        return (
            index + 1,
            list(weights),
            state,
            loss_sum + tf.reduce_sum(losses),
            correct + tf.math.count_nonzero(hits),
        )

    specs = tuple(tf.TensorSpec(w.shape, w.dtype) for w in initial)
    state = optimizer.initialize(specs)
    loop = (tf.constant(0), initial, state, tf.constant(0.0), tf.constant(0, tf.int64))
    total = batches * settings.local_epochs
    _, final, _, loss_sum, correct = tf.while_loop(lambda index, *_: index < total, step, loop)
    sums = OrderedDict(
        loss=loss_sum,
        correct=correct,
        seen=tf.cast(samples, tf.int64) * settings.local_epochs,
        examples=tf.cast(samples, tf.int64),
        clients=tf.constant(1),
        non_finite=tf.constant(0),
    )
    return [before - after for before, after in zip(initial, final, strict=True)], sums


def _leave_out_non_finite(
    update: list[tf.Tensor], weight: tf.Tensor, sums: Sums
) -> tuple[list[tf.Tensor], tf.Tensor, Sums]:
    """Zeroes everything a client sends if a part of it is not finite, and counts the client as ``non_finite``."""
    # One reduction a tensor: a sum is finite only if no term is NaN or infinite, and clients' updates are far from
    # the sizes at which finite terms overflow.
    finite = tf.reduce_all([tf.math.is_finite(tf.reduce_sum(tf.abs(part))) for part in [*update, sums["loss"]]])
    update = [tf.where(finite, part, tf.zeros_like(part)) for part in update]
    sums = OrderedDict((name, tf.where(finite, value, tf.zeros_like(value))) for name, value in sums.items())
    sums["non_finite"] = tf.cast(tf.logical_not(finite), tf.int32)
    return update, tf.where(finite, weight, 0.0), sums
