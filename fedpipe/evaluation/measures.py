"""What is measured, as functions of predictions: nothing here knows a model or a file."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.lazy import tf
from fedpipe.networks.network import Network

Classify = Callable[[np.ndarray], np.ndarray]


def logits_in_batches(classify: Classify, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits float32 [n, classes] of uint8 images [n, h, w, c]."""
    # Threads go to batches; inside an op there is one (fedpipe/pinning.py).
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return np.concatenate(list(pool.map(classify, _batches(images, batch_size))))


def _batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, max(len(images), 1), batch_size):
        yield images[start : start + batch_size]


def mean_loss(network: Network, logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the loss that the model was trained on, by TensorFlow's kernels: NumPy's exp depends on the CPU."""
    return mean_of(network.losses, logits, labels)


def mean_of(per_example: Callable[[Any, Any], Any], logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of ``per_example(labels int32 [n], logits float32 [n, classes])`` over the examples."""
    values = per_example(tf.constant(labels.astype(np.int32)), tf.constant(logits))
    return float(np.mean(values.numpy(), dtype=np.float64))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts int [classes, classes]: rows the actual class, columns the predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def per_class(counts: np.ndarray) -> pd.DataFrame:
    """Precision, recall and number of images (support) of each class, from its confusion counts.

    A precision or recall whose denominator is 0 is 0.
    """
    right, actual, claimed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return pd.DataFrame(
        {
            "class": np.arange(len(counts)),
            "precision": right / np.maximum(claimed, 1),
            "recall": right / np.maximum(actual, 1),
            "support": actual,
        }
    )
