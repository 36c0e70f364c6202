"""Schemes that look only at the order of the samples: ``contiguous`` and ``iid``."""

import numpy as np

from fedpipe.config import Partition


def contiguous(_: np.ndarray, sizes: np.ndarray, __: Partition, ___: np.random.Generator) -> np.ndarray:
    """Client i has the i-th run of consecutive samples: of 60,000 over 600 clients, 100 i to 100 i + 99."""
    return np.repeat(np.arange(len(sizes)), sizes)


def iid(_: np.ndarray, sizes: np.ndarray, __: Partition, rng: np.random.Generator) -> np.ndarray:
    """A seeded shuffle, dealt out: every client's label mix is the data set's but for chance.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", section 3 ("IID").
    """
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
