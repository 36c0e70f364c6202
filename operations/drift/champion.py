"""The model in use, as far as new data is concerned: its predictions for images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import layout
from fedpipe.datasets.raw import Labelled, RawDataset
from fedpipe.tracking.sqlite_store import file_of

_AT_ONCE = 1000  # images a forward pass

Predict = Callable[[np.ndarray], np.ndarray]  # images uint8 [n, height, width, channels] to labels int [n]


@dataclass(frozen=True)
class Champion:
    """A model and its accuracy on the test images.

    Attributes:
      name: What messages call it.
      predict: Its labels for images.
      on_test: Its accuracy on the test images.
      by_label: Its accuracy on the test images of each label: float [classes]; `on_test` for a label without any.
    """

    name: str
    predict: Predict
    on_test: float
    by_label: np.ndarray

    @staticmethod
    def measured(name: str, predict: Predict, test: Labelled, classes: int) -> "Champion":
        """Measures a model on the test images."""
        images, labels = test
        hits = predict(images) == labels
        counts = np.bincount(labels, minlength=classes)
        on_test = float(hits.mean())
        by_label = np.bincount(labels, hits, classes) / np.maximum(counts, 1)
        return Champion(name, predict, on_test, np.where(counts, by_label, on_test))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """The share of images to which it gives their label."""
        return float((self.predict(images) == labels).mean())

    def expected(self, labels: np.ndarray) -> float:
        """The accuracy that it has on test images of the same mix of labels."""
        return float(self.by_label[labels].mean())


def load_champion(dataset: RawDataset, test: Labelled) -> Champion | None:
    """The champion of a data set, measured on its test images.

    None where there is no champion, or it takes other samples or has other classes, or where labels are numbers.

    Raises:
      PipelineError: MLflow cannot be reached, or the champion's weights are not those that were registered.
    """
    file = file_of(layout.store())
    if file is not None and not file.exists():  # asking MLflow would make the file
        return None
    registry = layout.registry()
    version = registry.champion(dataset.name)
    if version is None:
        return None
    # TensorFlow takes seconds to load: only where there is a model to classify with.
    from fedpipe.evaluation.measures import logits_in_batches
    from fedpipe.networks.weights import load_weights

    model, weights = load_weights(registry.kept_weights(version))
    spec = model.spec
    if spec.kind != dataset.kind or dataset.kind.label_kind == "numbers":
        return None
    classify = model.classifier(weights)

    def predict(images: np.ndarray) -> np.ndarray:
        return logits_in_batches(classify, images, _AT_ONCE).argmax(axis=1)

    return Champion.measured(str(version), predict, test, dataset.classes)
