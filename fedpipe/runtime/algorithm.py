"""Federated averaging, composed from TFF's templates: a real `tff.learning.templates.LearningProcess`.

Because it is one, TFF's optimizers plug in, and its aggregators that reduce to federated sums: the place for them is
`build_process`.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedpipe import config as params
from fedpipe.models.zoo import ModelSpec, Weights
from fedpipe.runtime.client_work import build_client_work, build_open_shard, weights_type


def build_process(
    spec: ModelSpec, settings: params.Train, initial: Weights, shards: Path
) -> tff.learning.templates.LearningProcess:
    """Federated averaging over client ids; a client's data is read from ``shards`` on the worker.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    algorithm 1; the server optimizer is that of Reddi et al. 2021, "Adaptive Federated Optimization",
    algorithm 1, which is plain averaging with SGD at rate 1.

    Args:
      spec: The model.
      settings: Section train of params.yaml.
      initial: The weights before the first round.
      shards: The folder that fedpipe/datasets/shards.py wrote, as the worker sees it.
    """

    @tff.tensorflow.computation
    def initial_weights():  # type: ignore[no-untyped-def]
        return tff.learning.models.ModelWeights(tuple(tf.constant(w) for w in initial), ())

    open_shard = build_open_shard(shards)
    model_weights = weights_type(spec)
    process = tff.learning.templates.compose_learning_process(
        initial_weights,
        tff.learning.templates.build_broadcast_process(model_weights),
        build_client_work(spec, settings, build_optimizer(settings.client_optimizer), open_shard.type_signature.result),
        # No client left with a finite update: the mean is 0, not 0 / 0; the driver stops on the count.
        tff.aggregators.MeanFactory(no_nan_division=True).create(model_weights.trainable, tff.TensorType(np.float32)),
        tff.learning.templates.build_apply_optimizer_finalizer(
            build_optimizer(settings.server_optimizer), model_weights
        ),
    )
    return tff.simulation.compose_dataset_computation_with_learning_process(open_shard, process)


def build_optimizer(settings: params.Optimizer) -> tff.learning.optimizers.Optimizer:
    """TFF's optimizer of that name; what params.yaml does not name keeps TFF's default."""
    optimizers = tff.learning.optimizers
    if settings.name == "sgd":
        return optimizers.build_sgdm(settings.learning_rate, settings.momentum or None)
    build = {
        "adam": optimizers.build_adam,
        "adagrad": optimizers.build_adagrad,
        "rmsprop": optimizers.build_rmsprop,
        "yogi": optimizers.build_yogi,
    }[settings.name]
    return build(settings.learning_rate)
