"""Measuring versions on the data that is here now: the same test images and the same clients' samples for each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.measures import Classify, logits_in_batches
from fedpipe.networks.weights import load_weights
from fedpipe.tracking.registry import Version
from layout import CLIENT_TESTS, CLIENTS, RAW
from operations.promote.rules import Measured


@dataclass(frozen=True)
class Benchmark:
    """What every version is measured with.

    Attributes:
      raw: The description of the data set.
      images: Test images uint8 [n, height, width, channels].
      labels: Their labels uint8 [n].
      test_set_sha256: Tells these test images from others.
      clients: The folder of the clients' samples: those held out from training where there are such, else the shards.
      manifest: What is in it.
      batch_size: Images per forward pass.
    """

    raw: RawDataset
    images: np.ndarray
    labels: np.ndarray
    test_set_sha256: str
    clients: Path
    manifest: Manifest
    batch_size: int

    @staticmethod
    def read(batch_size: int) -> "Benchmark":
        """Reads the test images, and checks the clients' samples.

        Raises:
          PipelineError: Something of data/ is missing or damaged, or of different data sets.
        """
        raw = RawDataset.read(RAW)
        clients = CLIENT_TESTS if Manifest.read(CLIENT_TESTS).clients else CLIENTS
        manifest = Manifest.read(clients)
        described = (raw.name, raw.image_shape, raw.classes)
        if described != (manifest.dataset, manifest.image_shape, manifest.classes):
            raise PipelineError(f"{clients} was not made from the {raw.name} images in {RAW}: run `dvc repro`")
        images, labels = raw.read_test(RAW)
        verify_shards(clients, manifest)
        return Benchmark(raw, images, labels, raw.test_sha256(RAW), clients, manifest, batch_size)

    def measure(self, version: Version) -> Measured:
        """What ``version`` does on the test images and for its worst client.

        Raises:
          PipelineError: It takes other images or has other classes, or MLflow does not give its weights.
        """
        model, weights = load_weights(layout.registry().kept_weights(version))
        spec = model.spec
        if (spec.image_shape, spec.classes) != (self.raw.image_shape, self.raw.classes):
            raise PipelineError(
                f"{version} takes images {spec.image_shape} of {spec.classes} classes, but {RAW} holds "
                f"{self.raw.image_shape} of {self.raw.classes}, so it cannot be measured: give the data set another "
                "name, or take the version's alias away in the MLflow UI"
            )
        classify = model.classifier(weights)
        right = logits_in_batches(classify, self.images, self.batch_size).argmax(axis=1) == self.labels
        return Measured(right, self._worst_client(classify))

    def _worst_client(self, classify: Classify) -> float:
        clients = accuracy_per_client(classify, self.clients, self.manifest.clients, self.batch_size)
        return float(spread(clients["accuracy"].to_numpy())["worst"])
