"""Schemes that split the labels among the clients: ``shards`` and ``dirichlet``."""

import numpy as np

from fedpipe.allocation.counts import deal
from fedpipe.config import Partition
from fedpipe.errors import PipelineError

DIRICHLET_TRIES = 100


def shards(labels: np.ndarray, sizes: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """Sort by label, cut into s pieces a client, deal the pieces at random.

    A client of n samples gets s pieces of n / s (which differ by at most one). With even sizes, s = 2 and ten classes
    most clients see two digits only.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", section 3 ("Non-IID").

    Raises:
      PipelineError: A client has fewer samples than pieces.
    """
    clients, pieces = len(sizes), params.shards.shards_per_client
    smallest = int(sizes[sizes > 0].min())
    if pieces > smallest:
        raise PipelineError(
            f"params.yaml: 'partition.shards.shards_per_client' is {pieces}, but the smallest of {clients} clients has "
            f"{smallest} of the {len(labels)} samples; at most {smallest} are possible with these sizes"
        )
    piece_sizes = sizes[:, None] // pieces + (np.arange(pieces) < sizes[:, None] % pieces)
    dealt = rng.permutation(clients * pieces)
    assignment = np.empty(len(labels), np.int64)
    assignment[np.argsort(labels, kind="stable")] = np.repeat(dealt // pieces, piece_sizes.ravel()[dealt])
    return assignment


def dirichlet(labels: np.ndarray, _: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """Each class is split among the clients in proportions drawn from Dir(alpha, ..., alpha).

    The split is drawn anew until every client has at least ``min_size`` samples, `DIRICHLET_TRIES` times at
    the most. Small alpha: few clients hold most of a class; large alpha: close to IID.

    With ``self_balancing`` the classes are split one after the other, in the order of their labels, and class k only
    among the clients j that hold fewer samples than an even share: with N samples over K clients and n_j the samples
    that j has of the classes before k,

        p_k ~ Dir(alpha, ..., alpha),   p_kj <- p_kj [n_j < N / K] / sum_i p_ki [n_i < N / K],

    which is the same as a draw from Dir(alpha, ..., alpha) over those clients alone. So no client gets more than its
    even share and the samples of one class; and classes with high labels go to fewer clients than alpha says.

    Source: the Dirichlet label mix is Hsu et al. 2019, "Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification"; drawing it a class over clients, with a minimum size and
    balancing, is the code of Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural Networks",
    and of Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study".

    Raises:
      PipelineError: The minimum size cannot be met, or was not in any of the tries.
    """
    clients, alpha, min_size = params.clients, params.dirichlet.alpha, params.dirichlet.min_size
    if min_size * clients > len(labels):
        raise PipelineError(
            f"params.yaml: 'partition.dirichlet.min_size' is {min_size}: {clients} clients would need "
            f"{min_size * clients} samples, there are {len(labels)}; at most {len(labels) // clients} is possible"
        )
    draw = _balanced_counts if params.dirichlet.self_balancing else _dirichlet_counts
    class_sizes = np.unique(labels, return_counts=True)[1]
    best = -1
    for _try in range(DIRICHLET_TRIES):
        counts = draw(class_sizes, alpha, clients, rng)
        best = max(best, int(counts.sum(axis=0).min()))
        if best >= min_size:
            return deal(labels, counts, rng)
    raise PipelineError(
        f"params.yaml: 'partition.dirichlet.min_size' is {min_size}, but in {DIRICHLET_TRIES} draws with alpha "
        f"{alpha} the smallest of {clients} clients never got more than {best} samples; "
        f"lower min_size to {best} or less, raise alpha, or take fewer clients"
    )


def _dirichlet_counts(class_sizes: np.ndarray, alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """How many samples of each class each client gets: int [classes, clients], rows summing to class_sizes."""
    shares = rng.dirichlet(np.full(clients, alpha), len(class_sizes))
    ends = np.rint(np.cumsum(shares, axis=1) * class_sizes[:, None]).astype(np.int64)
    ends[:, -1] = class_sizes
    return np.diff(ends, axis=1, prepend=0)


def _balanced_counts(class_sizes: np.ndarray, alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """As `_dirichlet_counts`, but a client that has its even share gets nothing of the classes that follow."""
    counts = np.zeros((len(class_sizes), clients), np.int64)
    held = np.zeros(clients, np.int64)
    for row, size in zip(counts, class_sizes, strict=True):
        below = np.flatnonzero(held * clients < class_sizes.sum())
        row[below] = _dirichlet_counts(np.array([size]), alpha, len(below), rng)[0]
        held += row
    return counts
