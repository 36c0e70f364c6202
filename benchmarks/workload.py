"""The baseline recipe's workload, the same for every subject of the benchmark; imports nothing but NumPy."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCH, LEARNING_RATE, SAMPLES_PER_CLIENT = 20, 0.02, 100
RAW = Path("data/raw")


def training_set() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images uint8 [60000, 28, 28, 1] and labels uint8 [60000], from the download stage's files."""
    if json.loads((RAW / "dataset.json").read_text(encoding="utf-8"))["name"] != "mnist":
        raise SystemExit("error: the benchmark's workload is MNIST: set 'download.dataset' to mnist and run dvc repro")
    images = np.fromfile(RAW / "train-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return images, np.fromfile(RAW / "train-labels-idx1-ubyte", np.uint8, offset=8)


def client_data(clients: int, first: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of ``clients`` clients of 100 consecutive samples, from client ``first`` on."""
    images, labels = training_set()
    for client in range(first, first + clients):
        mine = slice(client * SAMPLES_PER_CLIENT, (client + 1) * SAMPLES_PER_CLIENT)
        yield images[mine], labels[mine]
