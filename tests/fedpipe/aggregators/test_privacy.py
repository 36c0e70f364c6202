"""Aggregators with noise or integers, against NumPy: what is clipped, what noise is added, what the sum is divided by.

Updates are given rather than trained. That processes have the same bits is tested in tests/fedpipe/test_bits.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.aggregators import dp_gaussian
from fedpipe.compatibility import round_size
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.learning.interface import Client
from fedpipe.learning.task import Task
from fedpipe.privacy.noise import secret_key
from fedpipe.runtime.worker import Worker
from tests.fedpipe.aggregators.test_aggregators import CLIENTS, sending, updates
from tests.fedpipe.training import Ended, model_of, run, train_settings

Make = Callable[[list[int]], Path]
SILENT = 1e-9  # a noise multiplier that shows in no digit
ONES = np.ones(CLIENTS, np.float32)
EVERYONE = list(range(CLIENTS))


@pytest.fixture(autouse=True)
def equal_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fedpipe.aggregators.test_aggregators.MASSES", ONES)


def settings_with(aggregator: str, **changes: Any) -> Train:
    own = {aggregator: changes.pop("own", {})}
    return train_settings(
        model="logistic_regression", aggregator=aggregator, client_weighting="uniform", **own, **changes
    )


def ended(worker: Worker, make_shards: Make, settings: Train, cohorts: list[list[int]], rows: Any = None) -> Ended:
    rows = updates() if rows is None else rows
    return run(worker, settings, make_shards([1] * CLIENTS), cohorts, algorithm=sending(rows))


def flat(weights: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(w) for w in weights])


def norms(rows: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(sum(np.square(part).reshape(len(part), -1).sum(axis=1) for part in rows))


def clipped_sum(rows: list[np.ndarray], norm: float, cohort: list[int]) -> np.ndarray:
    factors = np.minimum(1, norm / norms(rows))[cohort]
    return flat([np.tensordot(factors, part[cohort].astype(np.float64), 1) for part in rows])


@pytest.mark.parametrize("name", ["dp_gaussian", "dp_ftrl", "local_dp"])
def test_clipped_with_equal_weights(worker: Worker, make_shards: Make, name: str) -> None:
    settings = settings_with(name, own={"norm": 2.0, "noise_multiplier": SILENT})
    cohort = [1, 4, 9, 13]
    assert (norms(updates())[cohort] < 2).any() and (norms(updates())[cohort] > 2).any()
    actual = flat(ended(worker, make_shards, settings, [cohort]).weights)
    # `all` are asked, so 14 are expected; a client of its own knows how many were.
    expected = clipped_sum(updates(), 2.0, cohort) / (4 if name == "local_dp" else CLIENTS)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("cohort", "expected"), [("uniform", 5), ("poisson", 3.5)])
def test_divided_by_the_expected_number(worker: Worker, make_shards: Make, cohort: str, expected: float) -> None:
    drawn = {"clients_per_round": 5} if cohort == "uniform" else {"cohort": "poisson", "poisson": {"probability": 0.25}}
    settings = settings_with("dp_gaussian", own={"norm": 2.0, "noise_multiplier": SILENT}, **drawn)
    actual = flat(ended(worker, make_shards, settings, [[1, 4]]).weights)
    np.testing.assert_allclose(actual, clipped_sum(updates(), 2.0, [1, 4]) / expected, rtol=0, atol=1e-6)


def drawn(settings: Train, round_number: int, client: int | None = None) -> np.ndarray:
    """The noise on the sum of a round's updates; or that of a client."""
    file, task = AGGREGATORS.of(settings.aggregator), Task(model_of(settings), settings, CLIENTS)
    zeros = [tf.zeros([784, 10]), tf.zeros([10])]
    if client is not None:
        request = Client(tf.zeros([0, 28, 28, 1]), tf.zeros([0]), tf.constant(client), tf.constant(round_number))
        return flat(file.encode(task, (), zeros, tf.constant(1.0), request)[:2])
    return flat(file.finish(task, (), zeros, tf.constant(0.0), tf.constant(round_number))[0]) * CLIENTS


def assert_normal(values: np.ndarray, stddev: float) -> None:
    assert abs(values.mean()) < 4 * stddev / np.sqrt(values.size)
    assert values.std() == pytest.approx(stddev, rel=4 / np.sqrt(2 * values.size))
    assert (np.abs(values) < stddev).mean() == pytest.approx(0.6827, abs=0.025)


def assert_unlike(draws: list[np.ndarray]) -> None:
    correlations = np.corrcoef(draws)[~np.eye(len(draws), dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(draws[0].size)


OWN = {"norm": 3.0, "noise_multiplier": 0.7}


def test_noise_of_the_server() -> None:
    settings = settings_with("dp_gaussian", own=OWN)
    draws = [drawn(settings, number) for number in (1, 2, 3, 2**16 + 1)] + [
        drawn(settings_with("dp_gaussian", own=OWN, seed=1), 1)
    ]
    for each in draws:
        assert_normal(each, 0.7 * 3)
    assert_unlike(draws)
    assert drawn(settings, 2).tobytes() == draws[1].tobytes()


def test_noise_of_an_empty_cohort_in_a_round(worker: Worker, make_shards: Make) -> None:
    actual = flat(ended(worker, make_shards, settings_with("dp_gaussian", own=OWN), [[]]).weights)
    np.testing.assert_allclose(actual, drawn(settings_with("dp_gaussian", own=OWN), 1) / CLIENTS, rtol=1e-6)


def test_noise_of_clients() -> None:
    settings = settings_with("local_dp", own=OWN)
    draws = [drawn(settings, *who) for who in ((1, 0), (1, 1), (2, 0), (2, 1), (1, 70_000))]
    for each in draws:
        assert_normal(each, 0.7 * 3)
    assert_unlike(draws)


def test_noise_of_the_tree() -> None:
    """After t rounds it has the variance of as many estimates as t has bits set."""
    after = np.cumsum([drawn(settings_with("dp_ftrl", own=OWN), number) for number in range(1, 17)], axis=0)
    for rounds in range(1, 17):
        variance = sum(1 / (2 - 2.0**-level) for level in range(5) if rounds >> level & 1)
        assert_normal(after[rounds - 1], 0.7 * 3 * np.sqrt(variance))


def test_another_key_is_other_noise() -> None:
    settings = settings_with("dp_gaussian", own=OWN)
    keys = [None, secret_key(), secret_key(), (1, 2), (1, 3), (2, 2)]
    zeros, model = [tf.zeros([784, 10])], model_of(settings)
    made = [
        dp_gaussian.finish(Task(model, settings, CLIENTS, key), (), zeros, tf.constant(0.0), number)[0]
        for key in keys
        for number in (1, 2)
    ]
    assert_unlike([flat(each) for each in made])


def test_adaptive_clipping(worker: Worker, make_shards: Make) -> None:
    own = {"norm": 0.5, "noise_multiplier": SILENT, "clipping": "adaptive", "quantile": 0.6, "quantile_rate": 0.5}
    settings = settings_with("dp_gaussian", own=own | {"count_stddev": SILENT})
    actual = ended(worker, make_shards, settings, [EVERYONE, [3, 4], EVERYONE])
    norm = 0.5
    for cohort in (EVERYONE, [3, 4], EVERYONE):
        expected = clipped_sum(updates(), norm, cohort) / CLIENTS
        share = 0.5 + sum((norms(updates())[cohort] <= norm) - 0.5) / CLIENTS
        norm *= np.exp(-0.5 * (share - 0.6))
    np.testing.assert_allclose(flat(actual.weights), expected, rtol=0, atol=1e-6)
    assert actual.state[-2] == pytest.approx(norm, rel=1e-5)  # the aggregator's, before the number of the round


def test_noise_of_adaptive_clipping_is_that_of_both_releases() -> None:
    own = {"norm": 3.0, "noise_multiplier": 1.0, "clipping": "adaptive", "quantile_rate": 1.0, "count_stddev": 0.6}
    settings = settings_with("dp_gaussian", own=own)
    task, zeros = Task(model_of(settings), settings, CLIENTS), [tf.zeros([784, 10]), tf.zeros([10]), tf.constant(0.0)]
    made = [dp_gaussian.finish(task, tf.constant(3.0), zeros, tf.constant(0.0), number) for number in range(1, 301)]
    updates_noise = np.stack([flat(update) for update, _ in made])
    counts = -np.log(np.array([norm for _, norm in made]) / 3.0) * CLIENTS  # no client is within, none is not
    for_updates = 1 / np.sqrt(1 - 1 / 1.2**2)
    assert updates_noise.std() == pytest.approx(for_updates * 3 / CLIENTS, rel=0.01)
    assert counts.std() == pytest.approx(0.6, rel=0.15) and abs(counts.mean()) < 4 * 0.6 / np.sqrt(300)


@pytest.mark.parametrize(("bits", "rounding"), [(32, "nearest"), (62, "nearest"), (32, "stochastic"), (12, "nearest")])
def test_integer_sums(worker: Worker, make_shards: Make, bits: int, rounding: str) -> None:
    settings = settings_with("secure_sum", own={"norm": 2.0, "bits": bits, "rounding": rounding})
    rows = updates()
    rows[1][0] = 90.0  # nearly all that the norm allows is in a few entries
    actual = flat(ended(worker, make_shards, settings, [EVERYONE], rows).weights)
    step = CLIENTS * 2.0 / (2 ** (bits - 1) - 1 - CLIENTS)
    expected = clipped_sum(rows, 2.0, EVERYONE) / CLIENTS
    np.testing.assert_allclose(actual, expected, rtol=0, atol=step * (1 if rounding == "stochastic" else 0.5) + 1e-6)
    if bits == 12:
        assert np.abs(actual - expected).max() > step / 20
        integers = actual * CLIENTS / step
        np.testing.assert_allclose(integers, np.round(integers), atol=1e-3)


def test_integer_sums_have_the_same_bits_in_any_order(worker: Worker, make_shards: Make) -> None:
    settings, orders = settings_with("secure_sum", own={"norm": 2.0, "rounding": "nearest"}), [EVERYONE, EVERYONE[::-1]]
    first, other = ended(worker, make_shards, settings, orders).weights_by_round
    assert flat(first).tobytes() == flat(other).tobytes()
    first, other = ended(worker, make_shards, settings_with("mean"), orders).weights_by_round
    assert flat(first).tobytes() != flat(other).tobytes()


def test_the_largest_sum_does_not_wrap(worker: Worker, make_shards: Make) -> None:
    rows = [part * 0 for part in updates()]
    rows[1][:, 3], rows[1][:, 4] = 5.0, -0.0
    for sign in (1, -1):
        settings = settings_with("secure_sum", own={"norm": 5.0, "bits": 8})
        actual = flat(ended(worker, make_shards, settings, [EVERYONE], [sign * part for part in rows]).weights)
        assert actual[7843] == pytest.approx(sign * 5.0, abs=CLIENTS * 5 / (127 - CLIENTS))


def test_stochastic_rounding_has_the_right_mean(worker: Worker, make_shards: Make) -> None:
    rows = [np.full_like(part, 0.01) for part in updates()]  # less than a step of 8 bits
    settings = settings_with("secure_sum", own={"norm": 5.0, "bits": 8, "rounding": "stochastic"})
    actual = flat(ended(worker, make_shards, settings, [EVERYONE], rows).weights)
    assert actual.mean() == pytest.approx(0.01, rel=0.05) and actual.std() > 0.01


@pytest.mark.parametrize(
    ("cohort", "largest"),
    [
        ({}, 130),
        ({"clients_per_round": 128}, 128),
        ({"cohort": "poisson", "poisson": {"probability": 0.1}}, 130),  # any number of clients may come together
    ],
)
def test_more_clients_than_the_bits_can_count(cohort: dict[str, Any], largest: int) -> None:
    round_size.check_clients(settings_with("secure_sum", own={"bits": 9}, **cohort), 130)
    with pytest.raises(ValueError, match=f"'train.secure_sum.bits' 8 has no room for the sum of {largest} clients; se"):
        round_size.check_clients(settings_with("secure_sum", own={"bits": 8}, **cohort), 130)


def test_few_fixed_clients_of_many_fit_into_few_bits() -> None:
    settings = settings_with("secure_sum", own={"bits": 8}, cohort="fixed", fixed={"ids": [0, 599]})
    round_size.check_clients(settings, 600)


def test_a_client_without_samples_adds_no_integers() -> None:
    """An attacker without samples may have an update all the same."""
    settings = settings_with("secure_sum")
    task, secure_sum = Task(model_of(settings), settings, 5), AGGREGATORS.of("secure_sum")
    client = Client(tf.zeros([0]), tf.zeros([0]), tf.constant(1), tf.constant(1))
    for weight in (0.0, 1.0):
        integers = secure_sum.encode(task, (), [tf.constant([0.5, -0.25])], tf.constant(weight), client)
        assert bool(integers[0].numpy().any()) == bool(weight)
