"""Measuring versions on the data that is here now: the same test images and the same clients for each.

A client's accuracy is measured on samples that no version has trained on: on test samples of its own where there are
any (``partition.client_test``), else on the test images, each class weighted by its share of the client's labels,
which is what test samples drawn for the client would have on average. Only where clients' images or labels are skewed
(``partition.features``, ``partition.concept``), and there are no test samples, are their training samples taken.
Where samples are at sites, these measure (measuring_sites.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, Shards, read_held_out, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.measures import goodness, logits_in_batches
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.weights import load_weights
from layout import CLIENT_TESTS, CLIENTS, RAW, SKEW_TABLE
from operations.promote.decision import Candidate
from operations.promote.measuring_sites import MeasuringSites, measuring_sites
from operations.promote.rules import Measured

if TYPE_CHECKING:
    from fedpipe.federation.measuring import AtSites


@dataclass(frozen=True)
class Benchmark:
    """What every version is measured with.

    Attributes:
      raw: The description of the data set.
      images: Test images uint8 [n, height, width, channels].
      labels: Their labels uint8 [n].
      test_set_sha256: Tells these test images from others.
      clients: The folder of samples on which each client's accuracy is measured; None for the test images.
      manifest: The description of the clients' shards.
      batch_size: Images per forward pass.
      withholds: Whether nothing is published on the clients' samples, since a training has secret noise.
      sites: Measure models on the samples that they have; None where no samples are at sites.
    """

    raw: RawDataset
    images: np.ndarray
    labels: np.ndarray
    test_set_sha256: str
    clients: Path | None
    manifest: Manifest
    batch_size: int
    withholds: bool = False
    sites: "MeasuringSites | None" = None

    @staticmethod
    @contextmanager
    def opened(batch_size: int) -> "Iterator[Benchmark]":
        """As `read`; where samples are at sites, the benchmark is connected with these.

        Raises:
          PipelineError: As `read`; or federation.yaml or a certificate is missing or not as it should be.
        """
        benchmark = Benchmark.read(batch_size)
        if benchmark.manifest.samples_at != "sites":
            yield benchmark
            return
        with measuring_sites(benchmark.manifest) as sites:
            yield replace(benchmark, sites=sites)

    @staticmethod
    def read(batch_size: int) -> "Benchmark":
        """Reads the test images, and checks the clients' samples.

        Raises:
          PipelineError: Something of data/ is missing or damaged, or of different data sets.
        """
        raw, manifest = RawDataset.read(RAW), Manifest.read(CLIENTS)
        if (raw.name, raw.kind) != (manifest.dataset, manifest.kind):
            raise PipelineError(f"{CLIENTS} was not made from the {raw.name} images in {RAW}: run `dvc repro`")
        images, labels = raw.read_test(RAW)
        tests = read_held_out(CLIENT_TESTS, manifest)
        verify_shards(CLIENTS, manifest)
        verify_shards(CLIENT_TESTS, tests)
        clients = CLIENT_TESTS if tests.clients else CLIENTS if (CLIENTS / SKEW_TABLE).is_file() else None
        withholds = layout.pipeline_files().withholds
        return Benchmark(raw, images, labels, raw.test_sha256(RAW), clients, manifest, batch_size, withholds)

    def measure(self, candidate: Candidate) -> Measured:
        """The answers of ``candidate`` on the test images, and the accuracy of the client that it serves worst.

        Raises:
          PipelineError: It takes other images or has other classes, or MLflow does not give its weights.
        """
        model, weights = load_weights(candidate.file())
        spec = model.spec
        if spec.kind != self.raw.kind:
            raise PipelineError(
                f"{candidate} takes {spec.kind}, but {RAW} holds {self.raw.kind}, so it cannot be measured: give the "
                "data set another name, or take the version's alias away in the MLflow UI"
            )
        classify = model.classifier(weights)
        right = goodness(model, logits_in_batches(classify, self.images, self.batch_size), self.labels)
        if self.sites is not None:
            return self._with_sites(right, self.sites.ask(model, weights, self.batch_size))
        worst = None if self.withholds else float(spread(self._client_accuracies(model, weights, right))["worst"])
        return Measured(right, worst, self.clients_on)

    @staticmethod
    def _with_sites(right: np.ndarray, of_sites: "AtSites") -> Measured:
        """By the held-out samples at sites: of each client where all sites tell it, else of all clients of a site."""
        by_client = of_sites.figures()["test"].get("clients")
        worst = float(by_client["worst"]) if by_client else None
        return Measured(right, worst, "its own test samples", of_sites.accuracies)

    @property
    def clients_on(self) -> str:
        """The samples on which a client's accuracy is measured, in words."""
        if self.withholds:
            return "no samples"
        if self.clients is None:
            return f"the test {'images' if self.raw.kind.is_image else 'samples'} weighted by its labels"
        return "its own test samples" if self.clients == CLIENT_TESTS else "its training samples"

    def _client_accuracies(self, model: Network, weights: Weights, right: np.ndarray) -> np.ndarray:
        """The accuracy of each client, float [clients]; NaN for one without samples."""
        if self.clients is not None:
            table = accuracy_per_client(model, weights, self.clients, self.manifest.clients, self.batch_size)
            return table["accuracy"].to_numpy()
        shards = Shards.open(CLIENTS)
        owners = np.repeat(np.arange(self.manifest.clients), np.diff(shards.offsets))
        labels = self.raw.kind.binned(shards.read_labels(0, shards.samples))
        return expected_accuracies(owners, labels, self.manifest, self.raw.kind.binned(self.labels), right)


def expected_accuracies(
    owners: np.ndarray, labels: np.ndarray, clients: Manifest, test_labels: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Each client's mean recall over its labels: float [clients]; NaN for one without samples.

    Client k with n_kc samples of class c has sum_c n_kc recall_c / sum_c n_kc, over the classes that have test images.

    Args:
      owners: int [samples], the client of each training sample.
      labels: int [samples], their labels, or the bins of labels that are numbers.
      clients: How many clients and classes there are.
      test_labels: int [test images].
      right: bool [test images], whether the model knows each one.
    """
    counts, classes = np.zeros((clients.clients, clients.kind.bins)), clients.kind.bins
    np.add.at(counts, (owners, labels), 1)
    support = np.bincount(test_labels, minlength=classes)
    known = np.bincount(test_labels, weights=right, minlength=classes)
    counts[:, support == 0] = 0
    samples = counts.sum(axis=1)
    expected = (counts * (known / np.maximum(support, 1))).sum(axis=1)
    return np.divide(expected, samples, out=np.full(len(samples), np.nan), where=samples > 0)
