"""Dense networks in plain NumPy, float32: what the algorithms are compared with. Nothing of fedpipe's graphs here.

The references add in another order than TensorFlow's kernels, and so differ by float32's rounding: 6e-8 of each term.
Over three rounds of some ten steps at rate 0.1 this stays below 1e-6 of weights whose size is about 0.1; a wrong
formula shows in the third digit.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedpipe.config import Train
from fedpipe.datasets.shards import read_shard

TOLERANCE = 1e-6
Weights = list[np.ndarray]
SIZES = [30, 45, 0, 20, 7]  # samples of the clients: unequal, and one has none
COHORTS = [[0, 1, 2, 3, 4], [1, 2, 4], [0, 2, 3]]
TRAINING = {
    "model": "logistic_regression",
    "logistic_regression": {},
    "batch_size": 10,
    "local_epochs": 2,
    "client_optimizer": {"learning_rate": 0.1},
}


class Samples(NamedTuple):
    x: np.ndarray  # float32 [n, pixels]
    y: np.ndarray  # [n]


def samples_of(shards: Path, client: int) -> Samples:
    images, labels = read_shard(shards, client)
    flat = images.reshape(len(labels), math.prod(images.shape[1:]))
    return Samples(flat.astype(np.float32) / np.float32(255), labels.astype(int))


def losses_and_gradient(weights: Weights, samples: Samples) -> tuple[np.ndarray, Weights]:
    """The cross-entropy of each sample, and the gradient of their mean; dense layers with relu between them."""
    inputs = [samples.x]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, np.float32(0)))
    logits = inputs[-1] @ weights[-2] + weights[-1]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    right = np.arange(len(samples.y)), samples.y
    losses = -np.log(shares[right])
    shares[right] -= 1
    shares /= np.float32(max(len(samples.y), 1))
    gradients: Weights = []
    for layer in reversed(range(len(inputs))):
        gradients = [inputs[layer].T @ shares, shares.sum(axis=0), *gradients]
        shares = (shares @ weights[2 * layer].T) * (inputs[layer] > 0)
    return losses, gradients


def batches(samples: Samples, settings: Train, orders: list[np.ndarray] | None = None) -> Iterator[Samples]:
    """All batches of all epochs; ``orders`` has the order of each epoch, if it is not that of the shard."""
    for epoch in range(settings.local_epochs):
        order = np.arange(len(samples.y)) if orders is None else orders[epoch]
        for start in range(0, len(order), settings.batch_size):
            part = order[start : start + settings.batch_size]
            if len(part) == settings.batch_size or settings.last_batch == "keep":
                yield Samples(samples.x[part], samples.y[part])


Hook = Callable[[Weights, Weights], Weights]  # (gradients, weights) -> gradients


def same(gradients: Weights, now: Weights) -> Weights:
    return gradients


def step_count(settings: Train, samples: int, work: int = 1000) -> int:
    """How many steps a client takes that does so many thousandths of its work, rounded up."""
    whole = [start for start in range(0, samples, settings.batch_size) if start + settings.batch_size <= samples]
    an_epoch = len(whole) if settings.last_batch == "drop" else math.ceil(samples / settings.batch_size)
    return math.ceil(an_epoch * settings.local_epochs * work / 1000)


def taken(
    samples: Samples, settings: Train, work: int = 1000, orders: list[np.ndarray] | None = None
) -> Iterator[Samples]:
    """The batches of the steps that are taken."""
    return islice(batches(samples, settings, orders), step_count(settings, len(samples.y), work))


def sgd(
    weights: Weights,
    samples: Samples,
    settings: Train,
    rate: float | None = None,
    hook: Hook = same,
    orders: list[np.ndarray] | None = None,
    work: int = 1000,
) -> tuple[Weights, int, float]:
    """Local training; returns the update (first weights less last ones), the number of steps and the sum of losses.

    To the gradient that ``hook`` makes, weight decay is added; then it is clipped.
    """
    optimizer = settings.client_optimizer
    decay, norm = np.float32(optimizer.weight_decay), optimizer.clip_norm
    now, velocity, steps, loss = weights, [np.zeros_like(w) for w in weights], 0, 0.0
    for batch in taken(samples, settings, work, orders):
        losses, gradients = losses_and_gradient(now, batch)
        gradients = [g + decay * w for g, w in zip(hook(gradients, now), now, strict=True)]
        length = math.sqrt(sum(float(np.square(g).sum()) for g in gradients))
        if norm and length > norm:
            gradients = [g * np.float32(norm / length) for g in gradients]
        velocity = [np.float32(optimizer.momentum) * v + g for v, g in zip(velocity, gradients, strict=True)]
        now = [w - np.float32(rate or optimizer.learning_rate) * v for w, v in zip(now, velocity, strict=True)]
        steps, loss = steps + 1, loss + float(losses.sum())
    return [before - after for before, after in zip(weights, now, strict=True)], steps, loss


def mean(updates: list[Weights], masses: list[float]) -> Weights:
    """The weighted mean over clients."""
    shares = np.array(masses, np.float32) / np.float32(sum(masses))
    return [sum(s * part for s, part in zip(shares, parts, strict=True)) for parts in zip(*updates, strict=True)]


def moved(weights: Weights, update: Weights, rate: float = 1.0) -> Weights:
    return [w - np.float32(rate) * u for w, u in zip(weights, update, strict=True)]


def assert_close(actual: Weights, expected: Weights, tolerance: float = TOLERANCE) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
