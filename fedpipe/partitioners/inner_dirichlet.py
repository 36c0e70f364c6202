"""Scheme ``inner_dirichlet``: each client draws its labels from a mix of its own, q_i ~ Dir(alpha, ..., alpha).

Client i has the given number of samples n_i. All clients draw their n_i labels from q_i at once. Of a class that is
asked for more often than there are samples, random ones of the requests are met; the others draw again from q_i
without the classes that are used up,

    q_ic <- q_ic / sum of q_id over the classes d that are left,

until all are met. Sizes are exact; mixes are, but for the draw, as long as no class runs out.

Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", whose code draws sample by sample, and
draws again when a class has run out. https://arxiv.org/abs/2111.04263
"""

import numpy as np

from fedpipe.allocation.counts import deal
from fedpipe.config.section import Concentration, Section


class Params(Section):
    """The concentration of each client's own label mix: the smaller alpha, the fewer labels."""

    alpha: Concentration


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample: int [samples].

    Args:
      labels: int [samples].
      sizes: How many samples each client gets: int [clients].
      params: The concentration.
      rng: The draw.
    """
    left = np.unique(labels, return_counts=True)[1]
    alpha = params.alpha
    mixes = rng.dirichlet(np.full(len(left), alpha), len(sizes))
    counts = np.zeros((len(left), len(sizes)), np.int64)
    wanted = sizes.copy()
    while wanted.any():
        classes = np.flatnonzero(left)
        requested = rng.multinomial(wanted, _renormalized(mixes[:, classes], alpha, rng)).T
        for label, requests in zip(classes, requested, strict=True):
            met = requests if requests.sum() <= left[label] else rng.multivariate_hypergeometric(requests, left[label])
            counts[label] += met
            left[label] -= met.sum()
            wanted -= met
    return deal(labels, counts, rng)


def _renormalized(mixes: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """The rows of ``mixes`` scaled to the sum 1; one of zeros is drawn anew, which is the same distribution."""
    totals = mixes.sum(axis=1)
    spent = totals < np.finfo(float).tiny / np.finfo(float).eps
    mixes[spent] = rng.dirichlet(np.full(mixes.shape[1], alpha), int(spent.sum()))
    totals[spent] = mixes[spent].sum(axis=1)
    return mixes / totals[:, None]
