"""Measures as functions of predictions: nothing here knows a model or a file."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.lazy import tf
from fedpipe.networks.network import Network, label_tensor

Classify = Callable[[np.ndarray], np.ndarray]


def logits_in_batches(classify: Classify, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Outputs float32 [n, outputs], such as logits, of samples, such as uint8 images [n, h, w, c]."""
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
    """Mean of ``per_example(labels, outputs)`` over the examples, with labels as `label_tensor` gives them."""
    values = per_example(label_tensor(tf.constant(labels)), tf.constant(logits))
    return float(np.mean(values.numpy(), dtype=np.float64))


def goodness(network: Network, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How right each output is: whether a class is hit, bool [n]; of numbers as `Network.goodness`, float64 [n]."""
    if network.spec.format.numbers is None:
        return outputs.argmax(axis=1) == labels
    values: np.ndarray = network.goodness(tf.constant(labels), tf.constant(outputs)).numpy()
    return values.astype(np.float64)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts int [classes, classes]: rows the actual class, columns the predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def per_class(counts: np.ndarray) -> pd.DataFrame:
    """Precision, recall and number of images (support) of each class, from its confusion counts.

    The precision of a class that is never predicted is 0; the recall of one without an image is NaN.
    """
    right, actual, claimed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return pd.DataFrame(
        {
            "class": np.arange(len(counts)),
            "precision": right / np.maximum(claimed, 1),
            "recall": np.where(actual > 0, right / np.maximum(actual, 1), np.nan),
            "support": actual,
        }
    )


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, the harmonic mean of precision and recall, from confusion counts: float64 [classes]."""
    right, sizes = counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1)
    return 2 * right / np.maximum(sizes, 1)


def area_under_curve(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: of class 1 if there are two, else the mean over the classes, each against the others.

    The share of pairs of a sample of the class and another one of which the class's has the larger probability; equal
    ones count half (Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve"). Classes that all or
    no samples have are left out; NaN if that leaves none.
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = []
    for number in classes:
        mine = labels == number
        positives, others = int(mine.sum()), int((~mine).sum())
        if positives and others:
            _, places, repeats = np.unique(probabilities[:, number], return_inverse=True, return_counts=True)
            ranks = np.cumsum(repeats) - (repeats - 1) / 2  # of equal values, the middle one of their ranks
            areas.append((ranks[places[mine]].sum() - positives * (positives + 1) / 2) / (positives * others))
    return float(np.mean(areas)) if areas else float("nan")
