"""A few clients' images for the picture, as the shards hold them: what feature and concept skew look like."""

from pathlib import Path

import numpy as np

from fedpipe.datasets.shards import read_shard
from fedpipe.partitioning.client_skew import Skew
from fedpipe.partitioning.feature_skew import Look
from fedpipe.partitioning.partition_picture import Example

_CLIENTS = 10
_IMAGES = 3


def examples(folder: Path, skew: Skew, sizes: np.ndarray, numbers: np.ndarray) -> list[Example]:
    """The first images of ten clients, evenly spread over those with samples; none where there is no skew to be seen.

    Args:
      folder: The shards.
      skew: What sets their clients apart.
      sizes: How many samples each client of the folder has: int [clients].
      numbers: Their numbers in the partition, int [clients], ascending.
    """
    if not skew:
        return []
    filled = np.flatnonzero(sizes)
    shown = filled[np.unique(np.linspace(0, len(filled) - 1, _CLIENTS).astype(int))].tolist()
    permuted = [client for client in filled.tolist() if numbers[client] in skew.permutations]
    if permuted and not set(shown) & set(permuted):
        shown[-1] = permuted[-1]
    return [_example(folder, skew, place, int(numbers[place])) for place in sorted(shown)]


def _example(folder: Path, skew: Skew, place: int, client: int) -> Example:
    images, labels = read_shard(folder, place)
    look = skew.looks[client] if skew.looks else Look()
    values = [
        f"{look.rotation:+.0f}°" if look.rotation else "",
        f"contrast {look.contrast:.2f}" if look.contrast != 1 else "",
        f"background {look.background}" if look.background else "",
        f"noise {look.noise:.2f}" if look.noise else "",
        "labels permuted" if client in skew.permutations else "",
    ]
    return Example("\n".join([f"client {client}", *filter(None, values)]), images[:_IMAGES], labels[:_IMAGES])
