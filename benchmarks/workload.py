"""The baseline recipe's workload, the same for every subject of the benchmark; importing it loads nothing but NumPy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layout import RAW

if TYPE_CHECKING:
    from fedpipe.networks.network import Network

BATCH, LEARNING_RATE, SAMPLES_PER_CLIENT = 20, 0.02, 100


def training_set() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images uint8 [60000, 28, 28, 1] and labels uint8 [60000], from the download stage's files."""
    if json.loads((RAW / "dataset.json").read_text(encoding="utf-8"))["name"] != "mnist":
        raise SystemExit("error: the benchmark's workload is MNIST: set 'download.dataset' to mnist and run dvc repro")
    images = np.fromfile(RAW / "train-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return images, np.fromfile(RAW / "train-labels-idx1-ubyte", np.uint8, offset=8)


def client_data(
    clients: int, first: int = 0, samples: int = SAMPLES_PER_CLIENT
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of ``clients`` clients of ``samples`` consecutive ones, from client ``first`` on."""
    images, labels = training_set()
    for client in range(first, first + clients):
        mine = slice(client * samples, (client + 1) * samples)
        yield images[mine], labels[mine]


def network_of(model: str, keras_file: str = "") -> "Network":
    """A network for MNIST: of a file of fedpipe/models, ``keras:NAME`` of keras_twins.py, or ``keras_file``."""
    import hashlib

    from benchmarks import keras_twins
    from fedpipe.contracts.model import LOSSES, MODELS
    from fedpipe.networks.keras_model import KerasNetwork
    from fedpipe.networks.network import Network, network
    from fedpipe.networks.spec import ModelSpec

    name = model.removeprefix("keras:")
    params = {}
    if name == "keras_file":
        params = {"path": keras_file, "sha256": hashlib.sha256(Path(keras_file).read_bytes()).hexdigest()}
    loss_params = LOSSES.params("cross_entropy")()
    spec = ModelSpec(name, (28, 28, 1), 10, MODELS.params(name)(**params), loss_params=loss_params)
    if name == model:
        return network(spec)
    keras = KerasNetwork(spec, lambda spec: keras_twins.keras_model(name, spec))
    return Network(spec, keras.shapes, keras.forward, keras.first_weights)
