"""Schemes in which clients differ by their labels: ``shards`` and ``dirichlet``."""

import numpy as np

from stages.errors import PipelineError
from stages.params import Partition
from stages.partition.order import even_runs

DIRICHLET_TRIES = 100


def shards(labels: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """Sort by label, cut into clients x s even pieces, deal s pieces at random to each client.

    With s = 2 and ten classes most clients see two digits only.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", section 3 ("Non-IID").

    Raises:
      PipelineError: There are fewer samples than pieces.
    """
    pieces = params.clients * params.shards.shards_per_client
    if pieces > len(labels):
        raise PipelineError(
            f"params.yaml: 'partition.shards.shards_per_client' is {params.shards.shards_per_client}: {params.clients} "
            f"clients would need {pieces} samples, there are {len(labels)}; "
            f"at most {len(labels) // params.clients} are possible"
        )
    owner_of_piece = rng.permutation(pieces) // params.shards.shards_per_client
    assignment = np.empty(len(labels), np.int64)
    assignment[np.argsort(labels, kind="stable")] = owner_of_piece[even_runs(len(labels), pieces)]
    return assignment


def dirichlet(labels: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """Each class is split among the clients in proportions drawn from Dir(alpha, ..., alpha).

    The split is drawn anew until every client has at least ``min_size`` samples, `DIRICHLET_TRIES` times at
    the most. Small alpha: few clients hold most of a class; large alpha: close to IID.

    Source: the Dirichlet label mix is Hsu et al. 2019, "Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification"; drawing it a class over clients, with a minimum size,
    is Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural Networks".

    Raises:
      PipelineError: The minimum size cannot be met, or was not in any of the tries.
    """
    alpha, min_size = params.dirichlet.alpha, params.dirichlet.min_size
    if min_size * params.clients > len(labels):
        raise PipelineError(
            f"params.yaml: 'partition.dirichlet.min_size' is {min_size}: {params.clients} clients would need "
            f"{min_size * params.clients} samples, there are {len(labels)}; "
            f"at most {len(labels) // params.clients} is possible"
        )
    classes, class_sizes = np.unique(labels, return_counts=True)
    best = -1
    for _ in range(DIRICHLET_TRIES):
        counts = _dirichlet_counts(class_sizes, alpha, params.clients, rng)
        best = max(best, int(counts.sum(axis=0).min()))
        if best >= min_size:
            return _deal(labels, classes, counts, rng)
    raise PipelineError(
        f"params.yaml: 'partition.dirichlet.min_size' is {min_size}, but in {DIRICHLET_TRIES} draws with alpha "
        f"{alpha} the smallest of {params.clients} clients never got more than {best} samples; "
        f"lower min_size to {best} or less, raise alpha, or take fewer clients"
    )


def _dirichlet_counts(class_sizes: np.ndarray, alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """How many samples of each class each client gets: int [classes, clients], rows summing to class_sizes."""
    shares = rng.dirichlet(np.full(clients, alpha), len(class_sizes))
    ends = np.rint(np.cumsum(shares, axis=1) * class_sizes[:, None]).astype(np.int64)
    ends[:, -1] = class_sizes
    return np.diff(ends, axis=1, prepend=0)


def _deal(labels: np.ndarray, classes: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gives each client its number of samples of each class, drawn at random within the class."""
    assignment = np.empty(len(labels), np.int64)
    for label, per_client in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        assignment[rng.permutation(members)] = np.repeat(np.arange(len(per_client)), per_client)
    return assignment
