"""A model's predictions on the test samples, as figures, tables and a picture: of classes, or of numbers."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fedpipe.evaluation.measures import area_under_curve, confusion, f1_scores, per_class
from fedpipe.evaluation.pictures import draw_confusion, draw_numbers
from fedpipe.lazy import tf
from fedpipe.networks.network import Network


class Answers(NamedTuple):
    """The published figures of the answers to the test samples."""

    figures: dict[str, Any]  # beside loss and accuracy
    classes: pd.DataFrame  # a row for each class, or for each bin of the label: class, precision, recall, support
    predictions: pd.DataFrame  # a row for each test sample: actual, predicted
    draw: Callable[[str, Path], None]  # (title, file) -> a picture of right and wrong answers


def answers(network: Network, outputs: np.ndarray, labels: np.ndarray, metrics: Sequence[str]) -> Answers:
    """The answers to the test samples.

    Args:
      network: The model.
      outputs: Its outputs float32 [n, outputs].
      labels: The labels of the samples.
      metrics: ``auc`` and ``f1``, if requested; of classes only.
    """
    numbers = network.spec.format.numbers
    if numbers is not None:
        predicted = np.asarray(network.predictions(outputs))
        return _of_numbers(labels, predicted, numbers.bins(labels), len(numbers.edges) + 1, _names(network))
    predicted = outputs.argmax(axis=1)
    counts = confusion(labels, predicted, network.spec.classes)
    classes = per_class(counts)
    figures: dict[str, Any] = {}
    if "auc" in metrics:
        figures["auc"] = area_under_curve(tf.nn.softmax(outputs).numpy(), labels)
    if "f1" in metrics:
        scores = f1_scores(counts)
        figures["f1"] = float(scores[1]) if len(scores) == 2 else float(scores.mean())
    predictions = pd.DataFrame({"actual": labels, "predicted": predicted})
    return Answers(figures, classes, predictions, lambda title, path: draw_confusion(counts, title, path))


def _names(network: Network) -> list[str]:
    columns = network.spec.format.columns
    return list(columns.label) if columns is not None else [str(place) for place in range(network.spec.outputs)]


def _of_numbers(labels: np.ndarray, predicted: np.ndarray, bins: np.ndarray, count: int, names: list[str]) -> Answers:
    errors = predicted.astype(np.float64) - labels.astype(np.float64)
    absolute, squared = np.abs(errors).mean(axis=0), np.square(errors).mean(axis=0)
    figures: dict[str, Any] = {
        "mean_absolute_error": float(absolute.mean()),
        "root_mean_squared_error": float(math.sqrt(squared.mean())),
    }
    if len(names) > 1:
        figures["mean_absolute_errors"] = dict(zip(names, absolute.tolist(), strict=True))
    # The columns of classes stay, so that what draws them finds them; precision and recall of a bin mean nothing.
    table = pd.DataFrame({"class": np.arange(count), "precision": math.nan, "recall": math.nan})
    table["support"] = np.bincount(bins, minlength=count)
    sums = np.bincount(bins, np.abs(errors).mean(axis=1), count), np.bincount(bins, errors.mean(axis=1), count)
    for name, total in zip(("mean_absolute_error", "mean_error"), sums, strict=True):
        table[name] = np.divide(total, table["support"], out=np.full(count, np.nan), where=table["support"] > 0)
    columns: dict[str, np.ndarray] = {}
    for place, name in enumerate(names):
        suffix = "" if len(names) == 1 else f"_{name}"
        columns |= {f"actual{suffix}": labels[:, place], f"predicted{suffix}": predicted[:, place]}
    return Answers(
        figures, table, pd.DataFrame(columns), lambda title, path: draw_numbers(labels, predicted, names, title, path)
    )
