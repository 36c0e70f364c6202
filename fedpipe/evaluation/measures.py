"""What is measured, as functions of predictions: nothing here knows a model or a file."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

Classify = Callable[[np.ndarray], np.ndarray]


def logits_in_batches(classify: Classify, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits float32 [n, classes] of uint8 images [n, h, w, c]."""
    return np.concatenate([classify(batch) for batch in _batches(images, batch_size)])


def _batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, max(len(images), 1), batch_size):
        yield images[start : start + batch_size]


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats. By TensorFlow's kernel: that of NumPy's exp depends on the CPU."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels.astype(np.int32), logits)
    return float(np.mean(losses.numpy(), dtype=np.float64))


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


def client_summary(accuracies: pd.Series) -> dict[str, float]:
    """Mean, worst and 10th percentile of the clients' accuracies (each client counts once; without samples, not)."""
    known = accuracies.dropna().to_numpy()
    return {
        "mean": float(known.mean()),
        "worst": float(known.min()),
        "percentile_10": float(np.percentile(known, 10)),
    }
