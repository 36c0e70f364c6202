"""What defines each scheme of quantity skew, and what it refuses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.contracts.partition import QUANTITIES
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign
from tests.fedpipe.partitioning.settings import balanced_labels, counts_of, csv, partition

WEIGHTED = [name for name in QUANTITIES.names if name not in ("even", "sizes")]


def sizes_of(quantity: str, samples: int, min_size: int = 1, **changed: Any) -> np.ndarray:
    changed[quantity] = changed.get(quantity, {}) | {"min_size": min_size}
    params = partition(quantity=quantity, **changed)
    made = QUANTITIES.of(quantity).sizes
    return made(samples, params.clients, params.params_of("quantity"), np.random.default_rng(params.seed))


@pytest.mark.parametrize(
    ("quantity", "weight"),
    [("linear", lambda i: i + 1), ("square", lambda i: (i + 1) ** 2), ("exponential", lambda i: np.exp(0.3 * i))],
)
@given(samples=st.integers(1, 10**6), clients=st.integers(1, 50), min_size=st.integers(0, 30))
def test_sizes_are_proportional_to_the_weights(
    quantity: str, weight: Any, samples: int, clients: int, min_size: int
) -> None:
    """Within rounding, for all above the minimum; flwr-datasets defines these weights."""
    min_size = min(min_size, samples // clients)
    sizes = sizes_of(quantity, samples, min_size, clients=clients, exponential={"rate": 0.3})
    weights = weight(np.arange(clients, dtype=float))
    assert sizes.sum() == samples and sizes.min() >= min_size and (np.diff(sizes) >= 0).all()
    above = sizes > min_size + 1
    scale = (sizes[above] / weights[above]).mean() if above.any() else 0.0
    tolerance = 1 + np.abs(1 / weights[above]).max(initial=0) * weights[above]  # the scale is rounded as the sizes are
    assert (np.abs(sizes[above] - scale * weights[above]) <= tolerance).all()


def test_linear_is_what_it_says() -> None:
    np.testing.assert_array_equal(sizes_of("linear", 5_500), 100 * np.arange(1, 11))
    np.testing.assert_array_equal(sizes_of("square", 38_500), 100 * np.arange(1, 11) ** 2)


def test_small_clients_are_raised_to_the_minimum_and_no_others() -> None:
    """Weights 1 to 4 of 40 samples are 4, 8, 12, 16; at least 10 leaves 20 for the others, in the ratio 3 to 4."""
    np.testing.assert_array_equal(sizes_of("linear", 40, 10, clients=4), [10, 10, 10, 10])
    np.testing.assert_array_equal(sizes_of("linear", 40, 8, clients=4), [8, 8, 10, 14])
    np.testing.assert_array_equal(sizes_of("linear", 40, 0, clients=4), [4, 8, 12, 16])


def test_lognormal_spreads_by_sigma() -> None:
    logs = [np.log(sizes_of("lognormal", 10**7, clients=5_000, lognormal={"sigma": s})).std() for s in (0.0, 0.5, 1.0)]
    assert logs == pytest.approx([0.0, 0.5, 1.0], abs=0.03)


def test_dirichlet_quantity_spreads_by_alpha() -> None:
    """A share of Dir(alpha) over K clients has the variance (K - 1) / (K^2 (K alpha + 1))."""
    for alpha in (0.5, 5.0):
        sizes = sizes_of("dirichlet_quantity", 10**6, 0, clients=500, dirichlet_quantity={"alpha": alpha})
        assert (sizes / 10**6).var() == pytest.approx(499 / (500**2 * (500 * alpha + 1)), rel=0.25)


@pytest.mark.parametrize("quantity", WEIGHTED)
@pytest.mark.parametrize("extreme", [1e-3, 1e6])
def test_extreme_params_are_still_sizes(quantity: str, extreme: float) -> None:
    params = {"exponential": "rate", "lognormal": "sigma", "dirichlet_quantity": "alpha"}
    changed: Mapping[str, Any] = {quantity: {params[quantity]: extreme}} if quantity in params else {}
    sizes = sizes_of(quantity, 60_000, clients=600, **changed)
    assert sizes.sum() == 60_000 and sizes.min() >= 1


def test_given_sizes(tmp_path: Path) -> None:
    sizes = [30, 0, 60]
    inline = partition(quantity="sizes", clients=3, sizes={"values": sizes, "min_size": 0}, leave_out=10)
    table = csv(tmp_path / "sizes.csv", "samples,client,note\n60,2,x\n30,0,y\n0,1,z\n")
    read = partition(quantity="sizes", clients=3, sizes=table | {"min_size": 0}, leave_out=10)
    labels = balanced_labels(100)
    assert counts_of(labels, inline).sum(axis=1).tolist() == sizes
    assert assign(labels, inline).tobytes() == assign(labels, read).tobytes()


@pytest.mark.parametrize("quantity", WEIGHTED)
def test_a_minimum_that_cannot_be_met(quantity: str) -> None:
    with pytest.raises(PipelineError, match=rf"'partition.{quantity}.min_size' is 11: .* at most 10 is possible"):
        assign(balanced_labels(100), partition(quantity=quantity, **{quantity: {"min_size": 11}}))


@pytest.mark.parametrize(
    ("values", "leave_out", "message"),
    [
        ([50, 50], 0, "'partition.sizes.values' has 2 numbers, but 'partition.clients' is 3; there must be one for"),
        ([50, 50, 0], 0, "gives client 2 0 samples, less than the 1 of 'partition.sizes.min_size'"),
        (
            [50, 30, 10],
            0,
            "sums to 90 samples, but 100 are to be dealt out; .* or raise 'partition.leave_out' in params.yaml by 10",
        ),
        (
            [50, 50, 10],
            0,
            "sums to 110 samples, but 100 are to be dealt out; let them sum to 100, or lower .* by 10 if it is that",
        ),
        ([50, 30, 20], 5, "sums to 100 samples, but 95 are .*, or lower 'partition.leave_out' in params.yaml by 5"),
    ],
)
def test_sizes_that_do_not_fit(values: list[int], leave_out: int, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(
            balanced_labels(100), partition(quantity="sizes", clients=3, sizes={"values": values}, leave_out=leave_out)
        )
