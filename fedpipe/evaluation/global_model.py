"""The global model on test samples: what `evaluate` reports, and `train` after a round."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.attack import ATTACKS
from fedpipe.contracts.model import METRICS
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_client_tests, verify_shards
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.identity import require_same_data_set
from fedpipe.evaluation.measures import logits_in_batches, mean_loss, mean_of
from fedpipe.networks.network import Network, Weights


@dataclass(frozen=True)
class TestSamples:
    """What the global model is measured on after a round."""

    images: np.ndarray  # uint8 [n, height, width, channels]
    labels: np.ndarray  # uint8 [n]
    client_tests: Path | None = None  # the folder of the clients' own test samples, if there are any
    clients: int = 0
    batch_size: int = 1000  # images per forward pass: as `evaluate.batch_size` by default, which has the same last bits

    @staticmethod
    def read(raw: Path, clients: Path, client_tests: Path) -> "TestSamples":
        """The test samples of the data set in ``raw``, and those of the clients.

        Args:
          raw: The folder of the data set.
          clients: The folder of the clients' shards.
          client_tests: The folder of the clients' own test samples; it may hold none.

        Raises:
          PipelineError: The folders are of different data sets, or a file is missing or damaged.
        """
        dataset, manifest = RawDataset.read(raw), Manifest.read(clients)
        require_same_data_set(dataset, manifest, raw, clients)
        tests = read_client_tests(client_tests, manifest)
        verify_shards(client_tests, tests)
        return TestSamples(*dataset.read_test(raw), client_tests if tests.clients else None, tests.clients)

    def measure(self, network: Network, weights: Weights, settings: Train) -> dict[str, float]:
        """Columns test_loss, test_accuracy, one ``test_`` column per metric, and client_test_accuracy.

        The last one is the mean over the clients that have test samples of their own, if there are any. An attack may
        add columns (`attack_figures`).
        """
        classify = network.classifier(weights)
        logits = logits_in_batches(classify, self.images, self.batch_size)
        figures = {
            "test_loss": mean_loss(network, logits, self.labels),
            "test_accuracy": float((logits.argmax(axis=1) == self.labels).mean()),
        }
        for name in settings.metrics:
            figures[f"test_{name}"] = mean_of(METRICS.of(name).per_example, logits, self.labels)
        if self.client_tests is not None:
            each = accuracy_per_client(classify, self.client_tests, self.clients, self.batch_size)
            figures["client_test_accuracy"] = spread(each["accuracy"].to_numpy())["mean"]
        attack = settings.attack, settings.params_of("attack")
        return figures | attack_figures(*attack, network, weights, self.images, self.labels, self.batch_size)


def attack_figures(
    attack: str,
    params: Any,
    network: Network,
    weights: Weights,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
) -> dict[str, float]:
    """What shows that an attack works, by column, such as test_backdoor; empty for most attacks."""
    measure = ATTACKS.of(attack).measure
    if measure is None:
        return {}
    classify = network.classifier(weights)

    def predict(images: np.ndarray) -> np.ndarray:
        return logits_in_batches(classify, images, batch_size).argmax(axis=1)

    return measure(params, predict, images, labels, network.spec.classes)
