"""Learning rates over the rounds: the formulas of fedpipe/learning/schedules.py, written down once more."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.config.train import Optimizer, Schedule
from fedpipe.learning.schedules import rate, rate_in_graph, rates


def optimizer(base: float, **schedule: object) -> Optimizer:
    return Optimizer(name="sgd", learning_rate=base, momentum=0.0, schedule=Schedule(**schedule))


bases = st.floats(1e-6, 10.0)
warm_ups = st.integers(0, 20)
numbers = st.integers(1, 200)


@given(base=bases, warm_up=warm_ups, number=numbers)
def test_a_constant_rate_stays_after_the_warm_up(base: float, warm_up: int, number: int) -> None:
    expected = base * number / (warm_up + 1) if number <= warm_up else base
    assert rate(optimizer(base, warm_up=warm_up), number) == pytest.approx(expected)


@given(base=bases, warm_up=warm_ups, number=numbers, factor=st.floats(0.1, 1), every=st.integers(1, 30))
def test_step_and_exponential_rates_follow_their_formulas(
    base: float, warm_up: int, number: int, factor: float, every: int
) -> None:
    passed = number - warm_up - 1
    for name, power in (("step", passed // every), ("exponential", passed / every)):
        found = rate(optimizer(base, name=name, warm_up=warm_up, factor=factor, every=every), number)
        assert found == pytest.approx(base * number / (warm_up + 1) if passed < 0 else base * factor**power)


@given(base=bases, warm_up=warm_ups, number=numbers, after=st.integers(1, 100), end=st.floats(0, 0.99))
def test_the_cosine_rate_follows_its_formula(base: float, warm_up: int, number: int, after: int, end: float) -> None:
    settings = optimizer(base, name="cosine", warm_up=warm_up, rounds=warm_up + after, end=end)
    passed = number - warm_up - 1
    share = end + (1 - end) * (1 + math.cos(math.pi * min(passed, after) / after)) / 2
    assert rate(settings, number) == pytest.approx(base * number / (warm_up + 1) if passed < 0 else base * share)
    assert rate(settings, warm_up + 1) == pytest.approx(base)
    assert rate(settings, warm_up + after + 1) == rate(settings, warm_up + after + 50) == pytest.approx(base * end)


@given(
    name=st.sampled_from(["constant", "step", "exponential", "cosine"]), warm_up=warm_ups, rounds=st.integers(21, 60)
)
def test_rates_rise_in_the_warm_up_and_never_after_it(name: str, warm_up: int, rounds: int) -> None:
    schedule = {"name": name, "warm_up": warm_up, "factor": 0.7, "every": 3, "rounds": rounds}
    settings = optimizer(0.3, **schedule)
    found = rates(settings, rounds)
    if found is None:
        assert name == "constant" and not warm_up
        return
    assert found.dtype == np.float32 and len(found) == rounds and (found >= 0).all() and found.max() <= np.float32(0.3)
    assert (np.diff(found[: warm_up + 1]) > 0).all() and (np.diff(found[warm_up:]) <= 0).all()


def test_the_graph_looks_the_same_rates_up() -> None:
    settings = optimizer(0.3, name="exponential", factor=0.5)
    found = [rate_in_graph(settings, 4, tf.constant(number)).numpy() for number in (1, 2, 3, 4)]
    np.testing.assert_array_equal(found, np.array([0.3, 0.15, 0.075, 0.0375], np.float32))
    assert rate_in_graph(optimizer(0.3), 4, tf.constant(2)) == 0.3
