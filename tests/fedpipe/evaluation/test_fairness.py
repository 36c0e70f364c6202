"""How accuracy is spread over clients, against plain NumPy."""

import numpy as np
import pytest

from fedpipe.evaluation.fairness import jain_index, spread


def test_spread_is_numpys() -> None:
    rng = np.random.default_rng(3)
    values = rng.random(31)
    values[[4, 9]] = np.nan
    known = np.sort(values[~np.isnan(values)])
    figures = spread(values)
    for n in (1, 5, 9):
        place = n / 10 * (len(known) - 1)
        low = int(place)
        expected = known[low] + (place - low) * (known[low + 1] - known[low])
        assert figures[f"percentile_{10 * n}"] == pytest.approx(expected, abs=1e-12)
    mean = sum(known) / len(known)
    assert figures["mean"] == pytest.approx(mean) and figures["worst"] == known[0]
    assert figures["variance"] == pytest.approx(sum((known - mean) ** 2) / len(known))
    assert figures["jain"] == pytest.approx(sum(known) ** 2 / (len(known) * sum(known**2)))
    assert len(figures) == 7


def test_jain_of_equal_shares_and_of_one_who_has_all() -> None:
    assert jain_index(np.full(7, 0.3)) == pytest.approx(1)
    assert jain_index(np.array([0.0, 0.0, 0.8, 0.0])) == pytest.approx(1 / 4)
    assert jain_index(np.zeros(3)) == 1


def test_clusters_have_figures_of_their_own() -> None:
    by_cluster = spread(np.array([0.5, 0.9, np.nan, 0.7]), np.array([1, 0, 2, 1]))["by_cluster"]
    assert by_cluster == {
        "0": {"clients": 1, "mean": 0.9, "worst": 0.9},
        "1": {"clients": 2, "mean": pytest.approx(0.6), "worst": 0.5},
    }
