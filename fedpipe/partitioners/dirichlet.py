"""Scheme ``dirichlet``: each class is split among the clients in proportions drawn from Dir(alpha, ..., alpha).

With a small alpha few clients hold most of a class; a large one is close to IID. How many samples a client gets follows
from the draw, so the scheme decides the sizes. All classes are drawn anew until every client has at least ``min_size``
samples, `_TRIES` times at the most.

With ``self_balancing`` the classes are split one after the other, in the order of their labels, and class k only
among the clients j that hold fewer samples than an even share: with N samples over K clients, and n_j the samples
that j has of the classes before k,

    p_k ~ Dir(alpha, ..., alpha),   p_kj <- p_kj [n_j < N / K] / sum_i p_ki [n_i < N / K],

which is the same as a draw from Dir(alpha, ..., alpha) over those clients alone. So no client gets more than its even
share and the samples of one class; and classes with high labels go to fewer clients than alpha says.

Source: the Dirichlet label mix is Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification" (https://arxiv.org/abs/1909.06335); drawing it class by class over the clients, with a
minimum size and balancing, is the code of Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural
Networks" (https://arxiv.org/abs/1905.12022), and of Li et al. 2022, "Federated Learning on Non-IID Data Silos: An
Experimental Study" (https://arxiv.org/abs/2102.02079).
"""

import numpy as np

from fedpipe.allocation.counts import deal
from fedpipe.config.section import Concentration, Section, Size
from fedpipe.errors import PipelineError

_TRIES = 100
FOR_GIVEN_SIZES = "scheme to inner_dirichlet, the Dirichlet label skew for given sizes"


class Params(Section):
    """The concentration of the proportions, the smallest client, and whether full clients get no further class."""

    alpha: Concentration
    min_size: Size
    self_balancing: bool


def decides_sizes(_: Params) -> bool:
    """Always: they follow from the draw."""
    return True


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample: int [samples].

    Args:
      labels: int [samples].
      sizes: int [clients]; only their number counts.
      params: The draw.
      rng: The draw.

    Raises:
      PipelineError: The minimum size cannot be met, or was not in any of the tries.
    """
    clients, alpha, min_size = len(sizes), params.alpha, params.min_size
    if min_size * clients > len(labels):
        raise PipelineError(
            f"params.yaml: 'partition.dirichlet.min_size' is {min_size}: {clients} clients would need "
            f"{min_size * clients} samples, there are {len(labels)}; at most {len(labels) // clients} is possible"
        )
    draw = _balanced_counts if params.self_balancing else _counts
    class_sizes = np.unique(labels, return_counts=True)[1]
    best = -1
    for _try in range(_TRIES):
        counts = draw(class_sizes, alpha, clients, rng)
        best = max(best, int(counts.sum(axis=0).min()))
        if best >= min_size:
            return deal(labels, counts, rng)
    raise PipelineError(
        f"params.yaml: 'partition.dirichlet.min_size' is {min_size}, but in {_TRIES} draws with alpha "
        f"{alpha} the smallest of {clients} clients never got more than {best} samples; "
        f"lower min_size to {best} or less, raise alpha, or take fewer clients"
    )


def _counts(class_sizes: np.ndarray, alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """How many samples of each class each client gets: int [classes, clients], rows summing to class_sizes."""
    shares = rng.dirichlet(np.full(clients, alpha), len(class_sizes))
    ends = np.rint(np.cumsum(shares, axis=1) * class_sizes[:, None]).astype(np.int64)
    ends[:, -1] = class_sizes
    return np.diff(ends, axis=1, prepend=0)


def _balanced_counts(class_sizes: np.ndarray, alpha: float, clients: int, rng: np.random.Generator) -> np.ndarray:
    """As `_counts`, but a client that has its even share gets nothing of the classes that follow."""
    counts = np.zeros((len(class_sizes), clients), np.int64)
    held = np.zeros(clients, np.int64)
    for row, size in zip(counts, class_sizes, strict=True):
        below = np.flatnonzero(held * clients < class_sizes.sum())
        row[below] = _counts(np.array([size]), alpha, len(below), rng)[0]
        held += row
    return counts
