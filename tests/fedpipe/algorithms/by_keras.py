"""Trainings of models with batch normalization, by Keras's own layers and a plain loop: nothing of fedpipe's graphs."""

from typing import Any

import numpy as np
import tensorflow as tf

from fedpipe.config import Train
from fedpipe.models import keras_cnn
from fedpipe.networks.spec import ModelSpec
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import Samples, Weights


class KerasClient:
    """The layers of `keras_cnn`, or of `dense_with_batch_norm`, which a client trains on its samples."""

    def __init__(self, settings: Train, is_dense: bool = False) -> None:
        self._settings = settings
        kinds = tf.keras.layers
        dense = [kinds.Flatten(), kinds.Dense(6), kinds.BatchNormalization(), kinds.ReLU(), kinds.Dense(10)]
        self._model = (
            tf.keras.Sequential([kinds.Input((28, 28, 1)), *dense])
            if is_dense
            else keras_cnn.keras_model(ModelSpec.of(settings, (28, 28, 1), 10))
        )
        layers = [(layer, variable) for layer in self._model.layers for variable in layer.weights]
        self.is_batch_norm = [isinstance(layer, tf.keras.layers.BatchNormalization) for layer, _ in layers]
        self.is_statistic = [not variable.trainable for _, variable in layers]

    def trained(self, weights: Weights, samples: Samples, work: int = 1000) -> Weights:
        """The weights after local SGD, statistics among them."""
        model: Any = self._model
        model.set_weights(weights)
        settings = self._settings.client_optimizer
        optimizer = tf.keras.optimizers.SGD(settings.learning_rate)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for batch in reference.taken(samples, self._settings, work):
            with tf.GradientTape() as tape:
                value = loss(batch.y, model(batch.x.reshape(-1, 28, 28, 1), training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            gradients = [
                g + settings.weight_decay * w for g, w in zip(gradients, model.trainable_variables, strict=True)
            ]
            if settings.clip_norm:
                gradients, _ = tf.clip_by_global_norm(gradients, settings.clip_norm)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return [np.array(weight) for weight in model.get_weights()]
