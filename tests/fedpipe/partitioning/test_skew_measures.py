"""The figures of a partition: their bounds, and values that one can work out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from fedpipe.partitioning.skew_measures import client_measures, gini, global_mix, summary

tables = arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(2, 30)), elements=st.integers(0, 50)).filter(
    lambda counts: counts.sum() > 0
)


def frame(counts: np.ndarray | list[list[int]]) -> pd.DataFrame:
    counts = np.asarray(counts)
    return pd.DataFrame(counts, index=pd.RangeIndex(len(counts), name="client"), columns=range(counts.shape[1]))


@given(tables)
def test_bounds(counts: np.ndarray) -> None:
    clients, classes = counts.shape
    table = client_measures(frame(counts))
    known = table[table["samples"] > 0]
    assert table["samples"].tolist() == counts.sum(axis=1).tolist()
    assert known.notna().all(axis=None) and table[table["samples"] == 0]["entropy"].isna().all()
    assert known["entropy"].between(0, np.log2(classes) + 1e-6).all()
    assert known["total_variation"].between(0, 1).all()
    distances, variations = known["earth_movers_distance"], known["total_variation"]
    assert (variations <= distances + 2e-6).all() and (distances <= (classes - 1) * variations + 1e-4).all()
    assert -1e-12 <= gini(counts.sum(axis=1)) <= (clients - 1) / clients + 1e-12
    json.dumps(summary(frame(counts), table), allow_nan=False)


@given(arrays.arrays(np.int64, st.integers(2, 20), elements=st.integers(1, 50)), st.integers(1, 8))
def test_equal_mixes_and_sizes_are_no_skew(mix: np.ndarray, clients: int) -> None:
    counts = frame(np.tile(mix, (clients, 1)))
    figures = summary(counts, client_measures(counts))
    assert figures["total_variation"] == figures["earth_movers_distance"] == {"mean": 0, "max": 0}
    assert figures["sizes"]["gini"] == 0
    assert (
        figures["entropy"]["mean"]
        == figures["entropy"]["of_all"]
        == pytest.approx(stats.entropy(mix, base=2), abs=1e-6)
    )


@given(st.integers(2, 30), st.integers(1, 40))
def test_one_class_a_client(classes: int, size: int) -> None:
    counts = frame(np.eye(classes, dtype=np.int64) * size)
    table = client_measures(counts)
    assert (table["entropy"] == 0).all()
    np.testing.assert_allclose(table["total_variation"], 1 - 1 / classes, atol=1e-6)
    expected = [np.abs(np.arange(classes) - label).mean() for label in range(classes)]
    np.testing.assert_allclose(table["earth_movers_distance"], expected, atol=1e-6)


@given(tables)
def test_earth_movers_distance_is_scipys(counts: np.ndarray) -> None:
    labels = np.arange(counts.shape[1])
    for mine, actual in zip(counts, client_measures(frame(counts))["earth_movers_distance"], strict=True):
        if mine.sum():
            assert actual == pytest.approx(
                stats.wasserstein_distance(labels, labels, mine, global_mix(frame(counts))), abs=1e-5
            )


@pytest.mark.parametrize(
    ("sizes", "expected"), [([5, 5, 5], 0), ([0, 0, 0, 8], 0.75), ([1, 2, 3, 4], 0.25), ([4, 1, 3, 2], 0.25), ([7], 0)]
)
def test_gini_by_hand(sizes: list[int], expected: float) -> None:
    assert gini(np.array(sizes)) == pytest.approx(expected)


@given(arrays.arrays(np.int64, st.integers(1, 20), elements=st.integers(1, 100)))
def test_gini_is_the_mean_difference(sizes: np.ndarray) -> None:
    """The other definition: half the mean absolute difference of two clients' sizes, over the mean size."""
    differences = np.abs(sizes[:, None] - sizes[None, :]).mean()
    assert gini(sizes) == pytest.approx(differences / (2 * sizes.mean()))


def test_summary_by_hand() -> None:
    counts = frame([[2, 0], [1, 1], [0, 0]])
    figures = summary(counts, client_measures(counts))
    assert (figures["clients"], figures["samples"]) == (3, 4)
    assert figures["sizes"] == {"smallest": 0, "median": 2, "largest": 2, "gini": 0.333333}
    assert figures["entropy"] == {"mean": 0.5, "min": 0, "max": 1, "of_all": 0.811278}
    assert figures["total_variation"] == {"mean": 0.25, "max": 0.25}  # the empty client has no mix to be counted
