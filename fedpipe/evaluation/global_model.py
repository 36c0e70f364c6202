"""The global model on samples that no client trains on: the report of `train` after a round."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.attack import ATTACKS
from fedpipe.datasets.raw import Labelled, RawDataset
from fedpipe.datasets.shards import Manifest, read_held_out, read_shard, verify_shards
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.identity import require_same_data_set
from fedpipe.evaluation.measures import goodness, logits_in_batches, mean_loss, mean_of
from fedpipe.networks.network import Network, Weights


@dataclass(frozen=True)
class GlobalSamples:
    """The samples that the global model is measured on after a round."""

    parts: Mapping[str, Labelled]  # by the name of their columns: ``validation``, ``test``; not all need be there
    client_tests: Path | None = None  # the folder of the clients' own test samples, if there are any
    clients: int = 0
    held_out: Path | None = None  # the folder of the samples of clients that never train, if there are any
    held_out_clients: int = 0
    batch_size: int = 1000  # images per forward pass: as 'evaluate.batch_size' by default, which has the same last bits

    @staticmethod
    def read(raw: Path, clients: Path, validation: Path, client_tests: Path, held_out_clients: Path) -> "GlobalSamples":
        """The test samples of the data set; if there are any, also those of clients and of validation.

        Args:
          raw: The folder of the data set.
          clients: The folder of the shards.
          validation: Of the validation samples.
          client_tests: Of the clients' test samples.
          held_out_clients: Of the shards of clients that never train.

        Raises:
          PipelineError: The folders are of different data sets, or a file is missing or damaged.
        """
        dataset, manifest = RawDataset.read(raw), Manifest.read(clients)
        require_same_data_set(dataset, manifest, raw, clients)
        folders = validation, client_tests, held_out_clients
        manifests = held_out, tests, others = [read_held_out(folder, manifest) for folder in folders]
        for folder, own in zip(folders, manifests, strict=True):
            verify_shards(folder, own)
        parts = {"validation": read_shard(validation, 0)} if held_out.clients else {}
        parts["test"] = dataset.read_test(raw)
        return GlobalSamples(
            parts,
            client_tests if tests.clients else None,
            tests.clients,
            held_out_clients if others.clients else None,
            others.clients,
        )

    def measure(self, network: Network, weights: Weights, settings: Train) -> dict[str, float]:
        """Columns validation_loss, validation_accuracy and one per metric; the same with test_; test_clients_accuracy.

        The last one is the mean over the clients that have test samples of their own, if there are any; and
        held_out_accuracy is that over the clients that never train. An attack may add columns (`attack_figures`),
        measured on the test samples.
        """
        figures = self._on_parts(network, weights, settings)
        if self.client_tests is not None:
            each = accuracy_per_client(network, weights, self.client_tests, self.clients, self.batch_size)
            figures["test_clients_accuracy"] = spread(each["accuracy"].to_numpy())["mean"]
        if self.held_out is not None:
            others = accuracy_per_client(network, weights, self.held_out, self.held_out_clients, self.batch_size)
            if others["samples"].any():
                figures["held_out_accuracy"] = spread(others["accuracy"].to_numpy())["mean"]
        if "test" in self.parts:
            attack = settings.attack, settings.params_of("attack")
            figures |= attack_figures(*attack, network, weights, *self.parts["test"], self.batch_size)
        return figures

    def measure_own(self, network: Network, weights: Weights, settings: Train, client: int) -> dict[str, float]:
        """As `measure`, of the model of a client: test_clients_accuracy is that on its own test samples, if any."""
        figures = self._on_parts(network, weights, settings)
        if self.client_tests is not None:
            images, labels = read_shard(self.client_tests, client)
            right = goodness(network, logits_in_batches(network.classifier(weights), images, self.batch_size), labels)
            figures["test_clients_accuracy"] = float(right.mean()) if len(labels) else float("nan")
        return figures

    def _on_parts(self, network: Network, weights: Weights, settings: Train) -> dict[str, float]:
        classify = network.classifier(weights)
        figures: dict[str, float] = {}
        for part, (images, labels) in self.parts.items():
            logits = logits_in_batches(classify, images, self.batch_size)
            figures[f"{part}_loss"] = mean_loss(network, logits, labels)
            figures[f"{part}_accuracy"] = float(goodness(network, logits, labels).mean())
            for name in settings.metrics:
                figures[f"{part}_{name}"] = mean_of(partial(network.measured, name), logits, labels)
        return figures


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
