"""The global model on each client's own shard."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.evaluate.measures import Classify, logits_in_batches
from stages.shards import read_shard


def accuracy_per_client(classify: Classify, folder: Path, clients: int, batch_size: int) -> pd.DataFrame:
    """One row a client: client, samples, accuracy (empty for a client without samples).

    Shards are read one at a time and thread, so memory does not grow with the clients.
    """

    def measure(client: int) -> tuple[int, int, float]:
        images, labels = read_shard(folder, client)
        hits = logits_in_batches(classify, images, batch_size).argmax(axis=1) == labels
        return client, len(labels), float(hits.mean()) if len(labels) else float("nan")

    # Threads go to clients; inside an op there is one (stages/pinning.py).
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        rows = list(tqdm(pool.map(measure, range(clients)), "evaluate", clients, unit="client", disable=None))
    table = pd.DataFrame(rows, columns=["client", "samples", "accuracy"])
    return table.astype({"client": np.int64, "samples": np.int64})
