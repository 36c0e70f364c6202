"""Test samples of each client's own: never trained on, of the client's mix, of the stated size."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.config import Partition
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign
from fedpipe.partitioning.held_out_samples import split
from fedpipe.partitioning.partition_tables import client_test_table, samples_by_client
from tests.fedpipe.partitioning.settings import balanced_labels
from tests.fedpipe.partitioning.settings import partition as settings


def partition(**changed: object) -> Partition:
    """As asked, whatever the size of the smallest client."""
    return settings(dirichlet={"min_size": 0}, **changed)


TEST_LABELS = balanced_labels(1_000)


def test_none_changes_nothing() -> None:
    labels = balanced_labels(100)
    assignment = assign(labels, partition())
    trained, tested = split(assignment, labels, TEST_LABELS, partition())
    assert trained is assignment and tested == []


@given(
    scheme=st.sampled_from(["iid", "shards", "dirichlet"]),
    samples=st.integers(40, 400),
    clients=st.integers(1, 20),
    leave_out=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
    fraction=st.floats(0.01, 0.99),
)
def test_a_fraction_is_taken_from_each_client(
    scheme: str, samples: int, clients: int, leave_out: int, seed: int, fraction: float
) -> None:
    assume(clients * 2 <= samples - leave_out)
    labels = balanced_labels(samples)
    common = {"scheme": scheme, "clients": clients, "leave_out": leave_out, "seed": seed}
    params = partition(**common, client_test="fraction", client_test_fraction=fraction)
    assignment = assign(labels, params)
    before = assignment.copy()
    trained, tested = split(assignment, labels, TEST_LABELS, params)
    np.testing.assert_array_equal(assignment, before)
    for client, (mine, kept, held) in enumerate(
        zip(samples_by_client(assignment, clients), samples_by_client(trained, clients), tested, strict=True)
    ):
        assert sorted([*kept, *held]) == list(mine), client  # so both are the client's, and nothing is in both
        assert len(held) == (0 if len(mine) < 2 else max(1, int(fraction * len(mine) + 1e-9)))
        assert len(kept) > 0 or len(mine) == 0
    assert all((a == b).all() for a, b in zip(tested, split(assignment, labels, TEST_LABELS, params)[1], strict=True))


@given(
    scheme=st.sampled_from(["iid", "shards", "dirichlet"]),
    samples=st.integers(40, 400),
    clients=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    fraction=st.floats(0.01, 2.0),
)
def test_same_distribution_has_the_clients_mix(
    scheme: str, samples: int, clients: int, seed: int, fraction: float
) -> None:
    assume(clients * 2 <= samples)
    labels = balanced_labels(samples)
    params = partition(
        scheme=scheme, clients=clients, seed=seed, client_test="same_distribution", client_test_fraction=fraction
    )
    assignment = assign(labels, params)
    trained, tested = split(assignment, labels, TEST_LABELS, params)
    assert trained is assignment
    for mine, test in zip(samples_by_client(assignment, clients), tested, strict=True):
        size = max(1, int(fraction * len(mine) + 1e-9)) if len(mine) else 0
        assert len(test) == len(set(test)) == size and (np.diff(test) > 0).all()
        if size:
            exact = size * np.bincount(labels[mine], minlength=10) / len(mine)
            assert (np.abs(np.bincount(TEST_LABELS[test], minlength=10) - exact) < 1).all()


def test_shares_that_floats_cannot_hold() -> None:
    """0.29 * 100 is 28.999999999999996."""
    labels = balanced_labels(100)
    params = partition(clients=1, client_test="fraction", client_test_fraction=0.29)
    assert len(split(assign(labels, params), labels, TEST_LABELS, params)[1][0]) == 29


def test_another_seed_draws_other_samples() -> None:
    labels = balanced_labels(300)
    assignment = assign(labels, partition())
    for kind in ("fraction", "same_distribution"):
        first, two = (
            split(assignment, labels, TEST_LABELS, partition(seed=seed, client_test=kind))[1] for seed in (1, 2)
        )
        assert any((a != b).any() for a, b in zip(first, two, strict=True))


def test_too_few_test_samples_say_what_is_possible() -> None:
    labels = balanced_labels(1_000)
    few = np.arange(200, dtype=np.uint8) % 10  # 20 of each label
    request = {"scheme": "iid", "clients": 2, "client_test": "same_distribution"}
    with pytest.raises(
        PipelineError, match=r"client_test_fraction' is 1.0: client \d would .*, there are 20; at most "
    ) as e:
        split(assign(labels, partition(**request)), labels, few, partition(**request, client_test_fraction=1.0))
    possible = float(str(e.value).split("at most ")[1].split()[0])
    params = partition(**request, client_test_fraction=possible)
    assert len(split(assign(labels, params), labels, few, params)[1]) == 2
    with pytest.raises(PipelineError, match=r"of label 9, there are 0; use client_test fraction"):
        split(assign(labels, params), labels, few[few < 9], params)


def test_nothing_to_hold_out_is_refused() -> None:
    labels = balanced_labels(10)
    params = partition(clients=10, client_test="fraction")
    with pytest.raises(PipelineError, match="no client has two samples"):
        split(assign(labels, params), labels, TEST_LABELS, params)


def test_a_client_without_samples_has_no_test() -> None:
    labels = balanced_labels(6)
    assignment = np.array([0, 0, 0, 2, LEFT_OUT, 2])
    for kind in ("fraction", "same_distribution"):
        tested = split(assignment, labels, TEST_LABELS, partition(clients=3, client_test=kind))[1]
        assert [len(test) for test in tested] == [1, 0, 1]


def test_table() -> None:
    table = client_test_table(np.array([5, 6, 7], np.uint8), [np.array([2]), np.array([], int), np.array([0, 2])], "x")
    assert table.to_dict("list") == {"client": [0, 2, 2], "x": [2, 0, 2], "label": [7, 5, 7]}
