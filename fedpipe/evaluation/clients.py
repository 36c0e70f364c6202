"""The global model on each client's own samples, and the accuracies of the clients of each cluster."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from fedpipe.datasets.shards import Shards
from fedpipe.evaluation.measures import goodness
from fedpipe.networks.network import Network, Weights

PERSONAL_COLUMNS = ("test_personal_accuracy", "train_personal_accuracy")


def accuracy_per_client(
    network: Network, weights: Weights, folder: Path, clients: int, batch_size: int
) -> pd.DataFrame:
    """One row per client: client, samples, accuracy (empty for a client without samples).

    A batch is ``batch_size`` samples as they lie in the file, of however many clients: a forward pass for each of
    100,000 small clients would take most of its time to start. Memory does not grow with the images.
    """
    shards, classify = Shards.open(folder), network.classifier(weights)

    def hits(first: int) -> np.ndarray:
        images, labels = shards.read(first, min(first + batch_size, shards.samples))
        return goodness(network, classify(images), labels)

    starts = range(0, shards.samples, batch_size)
    # Threads go to batches; inside an op there is one (fedpipe/pinning.py).
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        batches = list(tqdm(pool.map(hits, starts), "evaluate", len(starts), unit="batch", disable=None))
    samples = np.diff(shards.offsets)
    owners = np.repeat(np.arange(clients), samples)
    # Hits are whole numbers, so their sum is exact; others are added client by client, in the order of the file.
    right = np.bincount(owners, np.concatenate([np.empty(0), *batches]), clients)
    accuracy = np.divide(right, samples, out=np.full(clients, np.nan), where=samples > 0)
    return pd.DataFrame({"client": np.arange(clients), "samples": samples, "accuracy": accuracy})


def personal_column(clients: pd.DataFrame) -> str | None:
    """The column of the personal models' accuracy, which says on what samples it is; None if there is none."""
    return next((column for column in clients if column in PERSONAL_COLUMNS), None)


def by_cluster(clients: pd.DataFrame) -> dict[int, np.ndarray]:
    """The accuracies of each cluster's clients with their personal model, ascending; those without samples have none.

    Args:
      clients: The table of clients, with the columns cluster and test_personal_accuracy or train_personal_accuracy.
    """
    clients = clients[clients["cluster"].notna()]  # one that never trained has none
    numbers, accuracies = clients["cluster"].to_numpy(np.int64), clients[personal_column(clients)].to_numpy(np.float64)
    measured = ~np.isnan(accuracies)
    return {int(number): np.sort(accuracies[measured & (numbers == number)]) for number in np.unique(numbers)}
