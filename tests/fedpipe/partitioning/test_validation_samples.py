"""Validation samples: how many, which, and what stays when samples come in."""

from pathlib import Path

import numpy as np
import pytest

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign
from fedpipe.partitioning.validation_samples import sample
from tests.fedpipe.partitioning.settings import balanced_labels, csv, partition

LABELS = balanced_labels(600)


def test_no_client_gets_a_validation_sample() -> None:
    params = partition(validation=50, leave_out=20)
    assignment, chosen = assign(LABELS, params), sample(600, params)
    assert len(np.unique(chosen)) == 50 and (assignment[chosen] == LEFT_OUT).all()
    assert (assignment == LEFT_OUT).sum() == 70 and np.bincount(assignment + 1)[1:].tolist() == [53] * 10


@pytest.mark.parametrize("scheme", ["contiguous", "iid", "shards", "dirichlet", "pathological", "inner_dirichlet"])
def test_a_scheme_deals_the_others_as_if_there_were_no_more(scheme: str) -> None:
    params = partition(scheme=scheme, validation=40, dirichlet={"min_size": 1})
    others = np.setdiff1d(np.arange(600), sample(600, params))
    alone = assign(LABELS[others], partition(scheme=scheme, validation=0, dirichlet={"min_size": 1}))
    np.testing.assert_array_equal(assign(LABELS, params)[others], alone)


def test_without_validation_nothing_is_drawn() -> None:
    assert len(sample(600, partition(validation=0))) == 0
    assert (assign(LABELS, partition(validation=0)) != LEFT_OUT).all()


def test_what_a_client_trained_on_is_never_a_validation_sample_of_a_larger_pool() -> None:
    params = partition(validation=50)
    before = set(sample(600, params).tolist())
    for samples in (601, 700, 1200, 5000):
        after = sample(samples, params)
        assert len(after) == 50
        assert {sample for sample in after.tolist() if sample < 600} <= before


def test_each_sample_has_the_same_chance() -> None:
    drawn = np.bincount(np.concatenate([sample(100, partition(validation=20, seed=seed)) for seed in range(2000)]))
    assert len(drawn) == 100 and abs(drawn - 400).max() < 4.5 * np.sqrt(2000 * 0.2 * 0.8)


def natural(tmp_path: Path, rows: list[str], **changed: object):  # type: ignore[no-untyped-def]
    table = csv(tmp_path / "writers.csv", "\n".join(["sample,client", *rows, ""]))
    return partition(scheme="by_column", by_column=table, **changed)


def test_a_table_of_samples_names_all_and_its_clients_lose_the_validation_samples(tmp_path: Path) -> None:
    rows = [f"{sample},{sample % 3}" for sample in range(590)]
    params = natural(tmp_path, rows, clients=3, leave_out=10, validation=60)
    expected = np.where(np.arange(600) < 590, np.arange(600) % 3, LEFT_OUT)
    expected[sample(600, params)] = LEFT_OUT
    np.testing.assert_array_equal(assign(LABELS, params), expected)


def test_a_client_of_a_table_that_would_lose_all_its_samples_is_named(tmp_path: Path) -> None:
    only = sample(600, partition(validation=60))[0]
    rows = [f"{sample},{1 if sample == only else 0}" for sample in range(600)]
    with pytest.raises(PipelineError, match=r"'partition.validation' is 60, which takes all samples of 1 clients"):
        assign(LABELS, natural(tmp_path, rows, clients=2, validation=60))


def test_given_sizes_are_of_what_is_left() -> None:
    sizes = {"values": [100, 200, 250], "min_size": 1}
    params = partition(quantity="sizes", sizes=sizes, clients=3, validation=50)
    assert np.bincount(assign(LABELS, params) + 1).tolist() == [50, 100, 200, 250]
    with pytest.raises(PipelineError, match="sums to 550 samples, but 560 are to be dealt out"):
        assign(LABELS, partition(quantity="sizes", sizes=sizes, clients=3, validation=40))


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"only 0 samples .* and the 600 of 'partition.validation'"):
        assign(LABELS, partition(validation=600, leave_out=5))
