"""A difference that chance explains is neither better nor worse."""

import numpy as np
import pandas as pd
import pytest

from operations.report import noise


def test_shares_of_images_drawn_anew_differ_by_more_in_one_of_twenty_draws() -> None:
    rng = np.random.default_rng(1)
    draws = rng.binomial(10_000, 0.9, (20_000, 2)) / 10_000
    limit = noise.of_shares((0.9, 0.9), (10_000, 10_000))
    assert (abs(draws[:, 1] - draws[:, 0]) > limit).mean() == pytest.approx(0.05, abs=0.006)
    assert noise.of_shares((0.5, 0.6), (0, 10)) == 0


@pytest.mark.parametrize(
    ("figure", "measure"),
    [("mean", np.mean), ("median", np.median), ("percentile_10", lambda values, axis: np.quantile(values, 0.1, axis))],
)
def test_clients_drawn_anew_differ_by_more_in_one_of_twenty_draws(figure: str, measure) -> None:
    rng = np.random.default_rng(2)
    draws = rng.normal(0.8, 0.05, (4_000, 2, 400))
    limits = [
        noise.of_clients(figure, [pd.DataFrame({"train_accuracy": values}) for values in draws[n]], "train_accuracy")
        for n in range(50)
    ]
    differences = np.diff(measure(draws, axis=2))[:, 0]
    assert (abs(differences) > np.mean(limits)).mean() == pytest.approx(0.05, abs=0.02)


def test_what_follows_from_the_clients_counts_where_their_mean_does() -> None:
    values = np.linspace(0.5, 0.7, 100)
    near, far = (pd.DataFrame({"test_accuracy": values + change, "test_samples": 50}) for change in (0.001, 0.2))
    first = pd.DataFrame({"test_accuracy": values, "test_samples": 50})
    assert noise.of_clients("jain", [first, near], "test_accuracy") == np.inf
    assert noise.of_clients("jain", [first, far], "test_accuracy") == 0
    assert noise.of_clients("worst", [first, near], "test_accuracy") == pytest.approx(0.196, abs=0.001)
    assert noise.of_clients("mean", [first, pd.DataFrame({"other": [1.0]})], "test_accuracy") == 0
