import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.secure_aggregation import values
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.values import Quantities, Quantity

EXAMPLES, LOSS = Quantity("examples", 0, 60_000), Quantity("loss", -1.0, 1e6, 2.0**-20)


@given(st.lists(st.tuples(st.integers(0, 60_000), st.floats(-1.0, 1e6)), min_size=3, max_size=20))
def test_sums_of_whole_numbers_are_exact_and_others_are_near(figures: list[tuple[int, float]]) -> None:
    both = Quantities((EXAMPLES, LOSS), 20)
    total = sum(both.words({"examples": examples, "loss": loss}) for examples, loss in figures)
    sums = both.sums(np.asarray(total), len(figures))
    assert sums["examples"] == sum(examples for examples, _ in figures)
    assert abs(sums["loss"] - math.fsum(loss for _, loss in figures)) <= len(figures) * 2.0**-20
    assert abs(sums["loss"] - math.fsum(LOSS.nearest(loss) for _, loss in figures)) <= 1e-9 * len(figures) * 1e6


def test_values_out_of_bounds_count_as_the_bounds() -> None:
    assert [EXAMPLES.nearest(value) for value in (-5, 0.4, 0.6, 70_000)] == [0, 0, 1, 60_000]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(Refused, match=r"loss is .*, which no sum can hold"):
        LOSS.word(value)


def test_a_sum_that_no_sites_can_have_is_refused() -> None:
    with pytest.raises(Refused, match="the sum of examples is out of its bounds"):
        Quantities((EXAMPLES,), 5).sums(np.array([3 * 60_000 + 1], "<u8"), 3)


@pytest.mark.parametrize(
    ("each", "message"),
    [
        ((EXAMPLES, EXAMPLES), "two quantities have the same name"),
        ((Quantity("x", 1, 1),), "x: finite bounds, the lower one first"),
        ((Quantity("x", 0, math.inf),), "x: finite bounds"),
        ((Quantity("x", 0, 1, 0.0),), "a step above 0"),
        ((Quantity("x", 0, 1e18),), "x: the sum of 100 sites has more than 64 bits"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(each: tuple[Quantity, ...], message: str) -> None:
    with pytest.raises(Refused, match=message):
        Quantities(each, 100)


def test_each_quantity_is_needed_and_no_other_one() -> None:
    with pytest.raises(Refused, match=r"quantities are .'examples'., and these are .'loss'."):
        Quantities((EXAMPLES,), 3).words({"loss": 1.0})


@pytest.mark.parametrize("bits", [8, 20, 32, 33, 62])
def test_tensors_come_back_modulo_2_to_the_bits(bits: int) -> None:
    parts = [np.arange(6, dtype=np.int64).reshape(2, 3) + (1 << 61), np.array(7, np.int64)]
    weights = values.words(parts, bits)
    assert weights.dtype == ("<u4" if bits <= 32 else "<u8")
    back = values.tensors(weights, [(2, 3), ()])
    assert all(np.array_equal(a % (1 << bits), b) and b.dtype == np.int64 for a, b in zip(parts, back, strict=True))
    with pytest.raises(ValueError, match="7 weights are not those of the shapes"):
        values.tensors(weights, [(2, 3)])
