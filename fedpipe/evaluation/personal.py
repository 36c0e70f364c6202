"""Personalised models, and each on its client's samples: the held-out ones, if there are any."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fedpipe.config.judge import Personalise
from fedpipe.datasets.shards import Shards
from fedpipe.evaluation.measures import goodness
from fedpipe.lazy import tf
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import Network, Weights, label_tensor

TRAINED_ON_THEM = (
    "the personal models are measured on the samples that they were trained on, because no client has test samples "
    "of its own: train_personal_accuracy shows how well they fit, not how well they serve; 'partition.client_test' "
    "same_distribution or fraction gives each client test samples"
)


def means_over_models(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the models that have it and for which it is not NaN."""
    values: dict[str, list[float]] = {}
    for of_model in figures:
        for name, value in of_model.items():
            values.setdefault(name, []).append(value)
    return {name: float(np.nanmean(each)) for name, each in values.items() if not np.isnan(each).all()}


def accuracy_of_own(
    network: Network, weights_of: Callable[[int], Weights], folder: Path, batch_size: int, what: str = "personal"
) -> np.ndarray:
    """Each client's accuracy in ``folder`` under the model ``weights_of(client)``; NaN for one without samples."""
    shards = Shards.open(folder)

    def accuracy(client: int) -> float:
        first, end = map(int, shards.offsets[client : client + 2])
        if first == end:
            return float("nan")
        classify, right = network.classifier(weights_of(client)), 0.0
        for start in range(first, end, batch_size):
            images, labels = shards.read(start, min(start + batch_size, end))
            right += float(goodness(network, classify(images), labels).sum())
        return right / (end - first)

    clients = range(len(shards.offsets) - 1)
    # Threads go to clients; inside an op there is one (fedpipe/pinning.py).
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        accuracies = tqdm(pool.map(accuracy, clients), what, len(clients), unit="client", disable=None)
        return np.array(list(accuracies), np.float64)


def fine_tuned(network: Network, weights: Weights, folder: Path, settings: Personalise) -> Callable[[int], Weights]:
    """A function from a client to the global model after local steps on the client's shard in ``folder``.

    Plain SGD from the global weights, w <- w - rate x (mean gradient of a batch), ``epochs`` times over the shard in
    its order, the last batch as small as it is, without dropout. Statistics of batch normalization stay.

    Source: Yu et al. 2020, "Salvaging Federated Learning
    by Local Adaptation" (fine-tuning), https://arxiv.org/abs/2002.04758.
    """
    shards = Shards.open(folder)
    size, rate = settings.batch_size, settings.learning_rate
    specs = [tf.TensorSpec(shape, tf.float32) for shape in network.shapes.values()]
    kind = network.spec.kind
    samples = [
        tf.TensorSpec([None, *kind.shape], kind.format.samples),
        tf.TensorSpec([None, *kind.label_shape], kind.format.label_type),
    ]

    @tf.function(autograph=False, input_signature=[specs, *samples])
    def tune(start: Any, images: Any, labels: Any) -> Any:
        batches = -(-tf.shape(labels)[0] // size)

        def step(index: Any, now: list[Any]) -> tuple[Any, list[Any]]:
            first = (index % batches) * size
            batch = slice(first, first + size)
            with tf.GradientTape() as tape:
                tape.watch(now)
                logits = network.forward(now, network.scaled(images[batch]), Dropout())
                loss = tf.reduce_mean(network.losses(label_tensor(labels[batch]), logits))
            trained = network.trained(now)
            gradients = map(tf.convert_to_tensor, tape.gradient(loss, trained))
            tuned = [w - rate * g for w, g in zip(trained, gradients, strict=True)]
            return index + 1, network.whole(tuned, network.statistics_of(now))

        total = batches * settings.epochs
        return tf.while_loop(lambda index, now: index < total, step, (tf.constant(0), list(start)))[1]

    tensors = [tf.constant(w) for w in weights]

    def weights_of(client: int) -> Weights:
        images, labels = shards.read(*shards.offsets[client : client + 2])
        return [w.numpy() for w in tune(tensors, images, labels)]

    return weights_of
