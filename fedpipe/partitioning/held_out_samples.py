"""Held-out data a client: test samples that it never trains on, with its own mix of labels.

Sizes: a client with n samples gets ``floor(client_test_fraction * n)`` test samples, at least one. A client without
samples gets none, and neither does one whose only sample would be held out.
"""

import numpy as np

from fedpipe.allocation.counts import LEFT_OUT, whole_part
from fedpipe.config import Partition
from fedpipe.errors import PipelineError
from fedpipe.partitioning.partition_tables import samples_by_client
from fedpipe.seeds import Purpose, generator

Members = list[np.ndarray]  # for each client the indices of its samples, ascending


def split(
    assignment: np.ndarray, labels: np.ndarray, test_labels: np.ndarray, params: Partition
) -> tuple[np.ndarray, Members]:
    """Who trains on which sample, and what each client is tested on (of no client where there are no tests).

    Args:
      assignment: The client of each training sample, int [n] (`assignment.assign`); in what is returned, samples that a
        client is tested on are left out.
      labels: The labels of the data set's training samples, uint8 [n].
      test_labels: Those of its test samples.
      params: ``client_test`` says whether test samples are indices of the data set's test samples
        (``same_distribution``) or of its training samples (``fraction``).

    Raises:
      PipelineError: There are not enough test samples of a label, or there is nothing that could be held out.
    """
    members = samples_by_client(assignment, params.clients)
    if params.client_test == "same_distribution":
        return assignment, _same_distribution(members, labels, test_labels, params)
    if params.client_test == "fraction":
        tested = _fraction(members, params)
        trained = assignment.copy()
        trained[np.concatenate(tested)] = LEFT_OUT
        return trained, tested
    return assignment, []


def _fraction(members: Members, params: Partition) -> Members:
    """A random fraction of each client's own samples."""
    sizes = _sizes(members, params.client_test_fraction)
    sizes[[len(mine) < 2 for mine in members]] = 0
    if not sizes.any():
        raise PipelineError(
            "params.yaml: 'partition.client_test' is fraction, but no client has two samples, one to train on and one "
            "to be tested on; take fewer clients, or client_test same_distribution"
        )
    return [
        np.sort(generator(params.seed, Purpose.CLIENT_TEST, client=client).choice(mine, size, replace=False))
        for client, (mine, size) in enumerate(zip(members, sizes, strict=True))
    ]


def _same_distribution(members: Members, labels: np.ndarray, test_labels: np.ndarray, params: Partition) -> Members:
    """Test samples in the proportions of the labels that the client trains on, to the nearest whole sample.

    A client draws without replacement, but independently of the others, so a test sample may serve several of them: the
    clients' mixes together are not the test set's, and nobody trains on these samples.
    """
    classes = int(max(labels.max(), test_labels.max())) + 1
    counts = np.stack([np.bincount(labels[mine], minlength=classes) for mine in members])
    quotas = _apportioned(counts, _sizes(members, params.client_test_fraction))
    by_label = [np.flatnonzero(test_labels == label) for label in range(classes)]
    _check_supply(quotas, counts, np.array([len(samples) for samples in by_label]), params)
    tested = []
    for client, quota in enumerate(quotas):
        rng = generator(params.seed, Purpose.CLIENT_TEST, client=client)
        drawn = [rng.choice(by_label[label], quota[label], replace=False) for label in np.flatnonzero(quota)]
        tested.append(np.sort(np.concatenate([np.empty(0, np.int64), *drawn])))
    return tested


def _sizes(members: Members, fraction: float) -> np.ndarray:
    """The number of test samples of each client: int [clients]."""
    counts = np.array([len(mine) for mine in members])
    return np.where(counts > 0, np.maximum(whole_part(fraction * counts), 1), 0)


def _apportioned(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Splits ``sizes`` [clients] in the proportions of ``counts`` [clients, classes]: int [clients, classes].

    By the largest remainder (Hamilton's method): what is left after rounding down goes, one each, to the labels with
    the largest remainders, the lower label first where they are equal. In whole numbers, so that
    equal ones are equal, and for all clients at once (`counts.apportion` does one, of shares).
    """
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    quotas, remainders = np.divmod(sizes[:, None] * counts, totals)
    missing = sizes - quotas.sum(axis=1)
    rank = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1, kind="stable")
    return quotas + (rank < missing[:, None])


def _check_supply(quotas: np.ndarray, counts: np.ndarray, supply: np.ndarray, params: Partition) -> None:
    if (quotas <= supply).all():
        return
    client, label = (int(index) for index in np.argwhere(quotas > supply)[0])
    mistake = (
        f"params.yaml: 'partition.client_test_fraction' is {params.client_test_fraction}: client {client} would need "
        f"{quotas[client, label]} test samples of label {label}, there are {supply[label]}; "
    )
    # Quotas are at most `ceil(fraction * counts)`, so with this fraction all of them can be met.
    possible = np.min(supply / np.maximum(counts, 1), where=counts > 0, initial=np.inf)
    if (possible := np.floor(possible * 1e4) / 1e4) > 0:
        raise PipelineError(f"{mistake}at most {possible:g} is possible, or client_test fraction")
    raise PipelineError(f"{mistake}use client_test fraction")
