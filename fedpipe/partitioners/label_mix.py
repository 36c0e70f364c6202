"""Schemes in which each client has a label mix of its own: drawn (``inner_dirichlet``) or given (``distribution``)."""

import numpy as np

from fedpipe.allocation.controlled_rounding import controlled_rounding
from fedpipe.allocation.counts import apportion, deal
from fedpipe.allocation.given_tables import read_proportions
from fedpipe.config import QUANTITY_NAMES, Partition
from fedpipe.errors import PipelineError


def inner_dirichlet(labels: np.ndarray, sizes: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """Client i has the given number of samples n_i, with labels drawn from a mix of its own, q_i ~ Dir(alpha, ...).

    All clients draw their n_i labels from q_i at once. Of a class that is asked for more often than there are samples,
    random ones of the requests are met; the others draw again from q_i without the classes that are used up,
    q_ic <- q_ic / sum of q_id over the classes d that are left, until all are met. Sizes are exact; mixes are, but for
    the draw, as long as no class runs out.

    Source: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", whose code draws sample by sample,
    and draws again when a class has run out.
    """
    left = np.unique(labels, return_counts=True)[1]
    alpha = params.inner_dirichlet.alpha
    mixes = rng.dirichlet(np.full(len(left), alpha), len(sizes))
    counts = np.zeros((len(left), len(sizes)), np.int64)
    wanted = sizes.copy()
    while wanted.any():
        classes = np.flatnonzero(left)
        asked = rng.multinomial(wanted, _renormalized(mixes[:, classes], alpha, rng)).T
        for label, requests in zip(classes, asked, strict=True):
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


def distribution(labels: np.ndarray, sizes: np.ndarray, params: Partition, rng: np.random.Generator) -> np.ndarray:
    """The label mixes are a given table p [clients, labels].

    With ``proportions_of: clients`` row i is the mix of client i and sums to 1: of its n_i samples, n_i p_ic have
    label c, rounded. Samples that no mix asks for are those left out. With ``proportions_of: labels`` column c says how
    the N_c samples of label c are split and sums to 1: client i has N_c p_ic of them, rounded; the sizes follow.

    Source: no paper's; the table is the user's. (flwr-datasets' ``DistributionPartitioner`` is another scheme: its
    table splits each label over a few partitions that follow from the label's number, after Li et al. 2020, "Federated
    Optimization in Heterogeneous Networks".)

    Raises:
      PipelineError: The table is not as it should be (`read_proportions`), the mixes ask for more samples of a label
        than there are, or a client would get none.
    """
    classes, supply = np.unique(labels, return_counts=True)
    proportions = read_proportions(params, classes)
    if params.distribution.proportions_of == "clients":
        counts = controlled_rounding(sizes, proportions, supply, rng)
        lacking = int(sizes.sum() - counts.sum())
        if lacking:
            raise _too_much(sizes @ proportions, supply, lacking, params)
        return deal(labels, counts.T, rng)
    counts = np.array([apportion(total, share) for total, share in zip(supply, proportions.T, strict=True)])
    none = np.flatnonzero(counts.sum(axis=0) == 0)
    if len(none):
        raise PipelineError(
            f"params.yaml: 'partition.distribution' gives {len(none)} clients no sample, the first of them client "
            f"{none[0]}; each needs a proportion that makes at least one sample of some label"
        )
    return deal(labels, counts, rng)


def _too_much(demand: np.ndarray, supply: np.ndarray, lacking: int, params: Partition) -> PipelineError:
    """The sentence for mixes that the samples cannot make, with how many samples they can."""
    each = max(1, params.quantity.min_size) if params.scheme in QUANTITY_NAMES else 1
    dealt, samples = round(demand.sum()), int(supply.sum())
    possible = int(np.min(supply[demand > 0] / demand[demand > 0]) * dealt)
    scarce = int(np.argmax(demand - supply))
    limit = possible if possible < dealt else dealt - lacking
    if limit < params.clients * each:
        return PipelineError(
            f"params.yaml: the mixes of 'partition.distribution' ask for {demand[scarce]:.0f} samples of a label of "
            f"which there are {supply[scarce]}; they cannot be dealt to {params.clients} clients of {each} or more "
            f"samples, because at most {limit} samples have these proportions; take fewer clients, or other mixes"
        )
    if possible < dealt:
        return PipelineError(
            f"params.yaml: the mixes of 'partition.distribution' ask for {demand[scarce]:.0f} samples of a label of "
            f"which there are {supply[scarce]}; in these proportions at most {possible} of the {samples} samples can "
            f"be dealt out, so set 'partition.leave_out' to {samples - possible} or more"
        )
    return PipelineError(
        f"params.yaml: the mixes of 'partition.distribution', rounded to whole samples, ask for {lacking} samples "
        f"more of some labels than there are; raise 'partition.leave_out' by {lacking} or more"
    )
