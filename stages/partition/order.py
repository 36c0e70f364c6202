"""Schemes that look only at the order of the samples: ``contiguous`` and ``iid``.

Sizes differ by at most one: of n samples, the first n mod k of k clients get one more.
"""

import numpy as np

from stages.params import Partition


def contiguous(labels: np.ndarray, params: Partition, _: np.random.Generator) -> np.ndarray:
    """Client i has the i-th run of consecutive samples: of 60,000 over 600 clients, 100 i to 100 i + 99."""
    return even_runs(len(labels), params.clients)


def iid(labels: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """A seeded shuffle, dealt out evenly: every client's label mix is the data set's but for chance.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", section 3 ("IID").
    """
    return rng.permutation(even_runs(len(labels), params.clients))


def even_runs(samples: int, clients: int) -> np.ndarray:
    """int [samples]: 0 ... 0 1 ... 1 and so on, runs whose lengths differ by at most one."""
    sizes = np.full(clients, samples // clients)
    sizes[: samples % clients] += 1
    return np.repeat(np.arange(clients), sizes)
