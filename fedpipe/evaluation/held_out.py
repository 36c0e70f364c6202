"""The global model on the held-out samples of clients of one owner: counts and sums, never a sample.

A site measures its own clients, and a simulation with ``partition.sites`` each site's in the same way: batches begin at
the site's first sample, so both have the same last bits.
"""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.evaluation.measures import goodness
from fedpipe.lazy import tf
from fedpipe.networks.network import Network, Weights, label_tensor


class Sums(NamedTuple):
    """The measurements on some samples."""

    samples: int
    correct: float  # a whole number for classes; of numbers, the sum of how right each one is (`Network.goodness`)
    loss: float  # the sum over the samples

    def figures(self) -> dict[str, Any]:
        """As metrics/evaluation.json has them."""
        return {"samples": self.samples, "loss": self.loss / self.samples, "accuracy": self.correct / self.samples}


class OfClients(NamedTuple):
    """The measurements on the samples of clients."""

    samples: np.ndarray  # int64 [clients]
    correct: np.ndarray  # int64 [clients], or float64 for numbers
    loss: float  # the sum over all samples

    @property
    def sums(self) -> Sums:
        """Over all clients."""
        return Sums(int(self.samples.sum()), self.correct.sum().item(), self.loss)


def measured(network: Network, weights: Weights, folder: Path, clients: range, batch_size: int) -> OfClients:
    """The model on the samples of ``clients`` in a folder of shards, ``batch_size`` samples a forward pass.

    The loss is that of training, summed in float64 in the order of the samples.
    """
    shards = Shards.open(folder)
    offsets = shards.offsets[clients.start : clients.stop + 1]
    classify = network.classifier(weights)

    def of_batch(first: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = shards.read(first, min(first + batch_size, int(offsets[-1])))
        logits = classify(images)
        losses = network.losses(label_tensor(tf.constant(labels)), tf.constant(logits)).numpy()
        return goodness(network, logits, labels), losses

    # Threads go to batches; inside an op there is one (fedpipe/pinning.py).
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        batches = list(pool.map(of_batch, range(int(offsets[0]), int(offsets[-1]), batch_size)))
    hits = np.concatenate([np.zeros(1, np.int64), *(right for right, _ in batches)])
    loss = sum((float(np.sum(losses, dtype=np.float64)) for _, losses in batches), 0.0)
    return OfClients(np.diff(offsets), np.diff(np.cumsum(hits)[offsets - offsets[0]]), loss)


def by_site(
    network: Network, weights: Weights, folder: Path, clients: Manifest, batch_size: int
) -> dict[str, Sums | None]:
    """The model on each site's held-out samples in ``folder``, whose clients have the sites of ``clients``."""
    return {
        site.name: measured(network, weights, folder, own, batch_size).sums if own else None
        for site, own in clients.ranges()
    }


def section(sums: Mapping[str, Sums | None]) -> dict[str, Any]:
    """What metrics/evaluation.json says of sites' held-out samples: of each site that tells it, and of all these."""
    measured = {site: each for site, each in sums.items() if each is not None and each.samples}
    if not measured:
        return {}
    return {
        "held_out": total(measured.values()).figures(),
        "sites": {site: each.figures() for site, each in measured.items()},
    }


def total(sums: Iterable[Sums]) -> Sums:
    """Over all of them."""
    samples, correct, losses = zip(*sums, strict=True)
    return Sums(sum(samples), sum(correct), sum(losses, 0.0))
