"""Learning rates over the rounds: the formulas of fedpipe/learning/schedules.py, written down once more."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.config.optimizers import SCHEDULE_KEYS, Optimizer, Schedule
from fedpipe.learning.schedules import rate, rate_in_graph, rates
from fedpipe.runtime.training_key import rounds_decide
from tests.fedpipe.training import train_settings


def optimizer(base: float, **schedule: object) -> Optimizer:
    return Optimizer(name="sgd", learning_rate=base, momentum=0.0, schedule=Schedule(**schedule))


bases = st.floats(1e-6, 10.0)
warm_ups = st.integers(0, 20)
numbers = st.integers(1, 200)


@given(base=bases, warm_up=warm_ups, number=numbers)
def test_a_constant_rate_stays_after_the_warm_up(base: float, warm_up: int, number: int) -> None:
    expected = base * number / (warm_up + 1) if number <= warm_up else base
    assert rate(optimizer(base, warm_up=warm_up), number, 200) == pytest.approx(expected)


@given(base=bases, warm_up=warm_ups, number=numbers, factor=st.floats(0.1, 1), every=st.integers(1, 30))
def test_step_and_exponential_rates_follow_their_formulas(
    base: float, warm_up: int, number: int, factor: float, every: int
) -> None:
    passed = number - warm_up - 1
    for name, power in (("step", passed // every), ("exponential", passed / every)):
        actual = rate(optimizer(base, name=name, warm_up=warm_up, factor=factor, every=every), number, 200)
        assert actual == pytest.approx(base * number / (warm_up + 1) if passed < 0 else base * factor**power)


@given(base=bases, warm_up=warm_ups, number=numbers, after=st.integers(1, 100), end=st.floats(0, 0.99))
def test_the_cosine_rate_follows_its_formula(base: float, warm_up: int, number: int, after: int, end: float) -> None:
    settings = optimizer(base, name="cosine", warm_up=warm_up, rounds=warm_up + after, end=end)
    passed = number - warm_up - 1
    share = end + (1 - end) * (1 + math.cos(math.pi * min(passed, after) / after)) / 2
    assert rate(settings, number, 7) == pytest.approx(base * number / (warm_up + 1) if passed < 0 else base * share)
    assert rate(settings, warm_up + 1, 7) == pytest.approx(base)
    ended = [rate(settings, warm_up + after + more, 7) for more in (1, 50)]
    assert ended[0] == ended[1] == pytest.approx(base * end)


@given(name=st.sampled_from(list(SCHEDULE_KEYS)), warm_up=warm_ups, rounds=st.integers(21, 60))
def test_rates_rise_in_the_warm_up_and_never_after_it(name: str, warm_up: int, rounds: int) -> None:
    values = {"factor": 0.7, "every": 3, "rounds": rounds}
    schedule = {key: value for key, value in values.items() if key in SCHEDULE_KEYS[name]}
    settings = optimizer(0.3, name=name, warm_up=warm_up, **schedule)
    actual = rates(settings, rounds)
    if actual is None:
        assert name == "constant" and not warm_up
        return
    assert (
        actual.dtype == np.float32 and len(actual) == rounds and (actual >= 0).all() and actual.max() <= np.float32(0.3)
    )
    assert (np.diff(actual[: warm_up + 1]) > 0).all() and (np.diff(actual[warm_up:]) <= 0).all()


def test_the_graph_looks_the_same_rates_up() -> None:
    settings = optimizer(0.3, name="exponential", factor=0.5)
    actual = [rate_in_graph(settings, 4, tf.constant(number)).numpy() for number in (1, 2, 3, 4)]
    np.testing.assert_array_equal(actual, np.array([0.3, 0.15, 0.075, 0.0375], np.float32))
    assert rate_in_graph(optimizer(0.3), 4, tf.constant(2)) == 0.3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step", [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]),
        ("exponential", [0.99**passed for passed in range(10)]),
        ("cosine", [(1 + math.cos(math.pi * passed / 10)) / 2 for passed in range(10)]),
    ],
)
def test_a_schedule_by_name_alone_decays_over_the_training_and_still_learns(name: str, expected: list[float]) -> None:
    """Of `cosine`, rounds from the second on had rate 0; of the others, none decayed."""
    settings = optimizer(0.2, name=name)
    rates_of_rounds = rates(settings, 10)
    assert rates_of_rounds is not None
    np.testing.assert_allclose(rates_of_rounds, 0.2 * np.array(expected), rtol=1e-6)
    # Twice as long a training decays half as fast, or as fast, and never stops early.
    assert rates(settings, 20)[9] >= rates_of_rounds[9] > 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "constant", "factor": 0.5}, "constant has no 'factor': leave it out, or set the name to step or exp"),
        ({"factor": 1.0}, "constant has no 'factor'"),
        ({"name": "cosine", "every": 2}, "cosine has no 'every': leave it out, or set the name to step or exponential"),
        ({"name": "step", "rounds": 5}, "step has no 'rounds': leave it out, or set the name to cosine"),
        ({"name": "exponential", "end": 0.0}, "exponential has no 'end': leave it out, or set the name to cosine"),
    ],
)
def test_keys_of_another_schedule_are_refused(schedule: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Schedule(**schedule)


def test_a_warm_up_over_all_rounds_leaves_no_cosine() -> None:
    schedule = {"schedule": {"name": "cosine", "warm_up": 3}}
    with pytest.raises(ValueError, match=r"'train.client_optimizer.schedule' cosine runs over 'train.rounds' \(3\)"):
        train_settings(rounds=3, client_optimizer=schedule)
    assert rate(train_settings(rounds=4, client_optimizer=schedule).client_optimizer, 4, 4) == 0.02


def test_only_a_schedule_over_all_rounds_makes_early_rounds_depend_on_later_ones() -> None:
    for schedule, reason in (
        (
            {"name": "cosine"},
            "'train.server_optimizer.schedule' cosine without 'rounds' runs over all of 'train.rounds'",
        ),
        ({"name": "step"}, "'train.server_optimizer.schedule' step without 'every' runs over all of 'train.rounds'"),
        ({"name": "cosine", "rounds": 5}, None),
        ({"name": "step", "every": 5}, None),
        ({"name": "exponential"}, None),
    ):
        assert rounds_decide(train_settings(server_optimizer={"schedule": schedule})) == reason
