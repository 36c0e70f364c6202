"""The models of clients that train each by itself, on the test samples and on the clients' own samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from fedpipe.datasets.shards import Shards
from fedpipe.evaluation.answers import Answers, answers
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.measures import goodness, logits_in_batches, mean_loss
from fedpipe.evaluation.personal import accuracy_of_own, means_over_models
from fedpipe.networks.network import Network
from fedpipe.networks.personal_weights import PersonalModels


class OnTest(NamedTuple):
    """Every client's model on the same test samples."""

    figures: dict[str, Any]  # means over the models, and `models`: how their accuracy is spread
    client: int  # whose model has the median accuracy; of an even number of clients, the lower one of the two
    accuracy: float  # of that model
    answers: Answers  # of that model


def on_test(
    network: Network,
    models: PersonalModels,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    metrics: Sequence[str],
) -> OnTest:
    """Measures each client's model on the test samples; the params are those of `answers` and `logits_in_batches`."""

    def outputs_of(client: int) -> np.ndarray:
        return logits_in_batches(network.classifier(models.of(client)), images, batch_size)

    figures: list[dict[str, Any]] = []
    for client in tqdm(range(len(models.client_model)), "models", unit="client", disable=None):
        outputs = outputs_of(client)
        of_client = {
            "loss": mean_loss(network, outputs, labels),
            "accuracy": float(goodness(network, outputs, labels).mean()),
        }
        of_all = answers(network, outputs, labels, metrics).figures
        figures.append(of_client | {name: value for name, value in of_all.items() if isinstance(value, float)})
    accuracies = np.array([each["accuracy"] for each in figures])
    median = int(np.argsort(accuracies, kind="stable")[(len(accuracies) - 1) // 2])
    means = means_over_models(figures) | {"models": spread(accuracies)}
    return OnTest(means, median, float(accuracies[median]), answers(network, outputs_of(median), labels, metrics))


def on_own_samples(
    network: Network, models: PersonalModels, clients: Path, tests: Path | None, batch_size: int
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The table of clients, each under its own model, and figures of it by what they are measured on: train and test.

    Args:
      network: The model.
      models: Of all clients.
      clients: The folder of the clients' shards.
      tests: That of their own test samples; None if they have none.
      batch_size: Samples of a forward pass.
    """

    def measured(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        return np.diff(Shards.open(folder).offsets), accuracy_of_own(network, models.of, folder, batch_size)

    samples, accuracies = measured(clients)
    table = pd.DataFrame({"client": np.arange(len(samples)), "train_samples": samples, "train_accuracy": accuracies})
    figures: dict[str, dict[str, Any]] = {"train": {"clients": spread(accuracies)}, "test": {}}
    if tests is not None:
        samples, accuracies = measured(tests)
        table = table.assign(test_samples=samples, test_accuracy=accuracies)
        figures["test"]["clients"] = {"samples": int(samples.sum()), **spread(accuracies)}
    return table, figures
