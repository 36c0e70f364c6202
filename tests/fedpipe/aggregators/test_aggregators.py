"""Every aggregator against NumPy, on updates that are given rather than trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.learning.interface import Contribution
from fedpipe.learning.task import Task
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import weighting
from tests.fedpipe.training import Ended, measured_of_one_example, model_of, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
CLIENTS = 14  # several groups
MASSES = np.array([3, 1, 0, 5, 2, 2, 7, 1, 4, 1, 1, 6, 2, 3], np.float32)


def updates() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    drawn = [rng.normal(size=(CLIENTS, *shape)).astype(np.float32) for shape in ((784, 10), (10,))]
    scale = np.linspace(0.001, 0.05, CLIENTS).astype(np.float32)
    return [part * scale.reshape(-1, *[1] * (part.ndim - 1)) for part in drawn]


def sending(rows: list[np.ndarray]) -> Any:
    """An algorithm whose client k sends row k of each of ``rows``, and whose server takes the total for its weights."""

    def client_update(task: Any, server: Any, client: Any) -> Contribution:
        measured = measured_of_one_example()
        mine = [tf.gather(tf.constant(part), client.id) for part in rows]
        return Contribution(mine, tf.gather(tf.constant(MASSES), client.id), measured)

    return Algorithm(
        client_update=client_update, server_update=lambda task, server, total: server._replace(weights=total.update)
    )


def mean(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    return [np.tensordot(masses / masses.sum(), part, 1) for part in rows]


def norms_of(rows: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(sum(np.square(part).reshape(len(part), -1).sum(axis=1) for part in rows))


def clipped(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    norms = norms_of(rows)
    assert (norms < 2.0).any() and (norms > 2.0).any()
    factors = np.minimum(1, 2.0 / norms).astype(np.float32)
    return mean([part * factors.reshape(-1, *[1] * (part.ndim - 1)) for part in rows], masses)


def median(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    return [np.median(part[masses > 0], axis=0) for part in rows]


def zeroed(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    short = norms_of(rows) <= 2.0
    if len(rows[0]) > 1:
        assert short.any() and not short.all()
    return mean([part[short] for part in rows], masses[short])


def trimmed(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    rows = [part[masses > 0] for part in rows]
    cut = int(0.2 * len(rows[0]))
    return [np.sort(part, axis=0)[cut : len(part) - cut].mean(axis=0) for part in rows]


def krum_order(matrix: np.ndarray, attackers: int) -> np.ndarray:
    """Rows from the least score to the largest."""
    scores = []
    for first in range(len(matrix)):
        others = sorted(float(np.square(matrix[first] - other).sum()) for k, other in enumerate(matrix) if k != first)
        scores.append(sum(others[: max(len(matrix) - attackers - 2, 1)]))
    return np.argsort(scores, kind="stable")


def matrix_of(rows: list[np.ndarray], masses: np.ndarray) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in rows], axis=1)[masses > 0].astype(np.float64)


def shaped(vector: np.ndarray, rows: list[np.ndarray]) -> list[np.ndarray]:
    shapes = [part.shape[1:] for part in rows]
    parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def krum(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    matrix = matrix_of(rows, masses)
    return shaped(matrix[krum_order(matrix, 2)[0]], rows)


def multi_krum(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    matrix = matrix_of(rows, masses)
    return shaped(matrix[krum_order(matrix, 2)[: max(len(matrix) - 4, 1)]].mean(axis=0), rows)


def bulyan(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    left = matrix_of(rows, masses)
    theta = max(len(left) - 4, 1)
    beta, chosen = max(theta - 4, 1), []
    for _ in range(theta):
        best = krum_order(left, 2)[0]
        chosen.append(left[best])
        left = np.delete(left, best, axis=0)
    values = np.array(chosen)
    near = np.argsort(np.abs(values - np.median(values, axis=0)), axis=0, kind="stable")[:beta]
    return shaped(np.take_along_axis(values, near, axis=0).mean(axis=0), rows)


def geometric_median(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    matrix, masses = matrix_of(rows, masses), masses[masses > 0]
    middle = np.average(matrix, axis=0, weights=masses)
    for _ in range(8):
        middle = np.average(matrix, axis=0, weights=masses / np.maximum(np.linalg.norm(matrix - middle, axis=1), 1e-6))
    return shaped(middle, rows)


EXPECTED = {
    "mean": mean,
    "clipped_mean": clipped,
    "zeroed_mean": zeroed,
    "median": median,
    "trimmed_mean": trimmed,
    "krum": krum,
    "multi_krum": multi_krum,
    "bulyan": bulyan,
    "geometric_median": geometric_median,
}
SECTIONS: dict[str, dict[str, Any]] = {
    "clipped_mean": {"norm": 2.0},
    "zeroed_mean": {"norm": 2.0},
    "trimmed_mean": {"trim": 0.2},
    "krum": {"attackers": 2},
    "multi_krum": {"attackers": 2},
    "bulyan": {"attackers": 2},
}


def aggregated(worker: Worker, make_shards: Make, name: str, rows: list[np.ndarray], *cohorts: list[int]) -> Ended:
    """A round for each cohort; the weights after a round are what was aggregated in it."""
    settings = train_settings(model="logistic_regression", aggregator=name, **{name: SECTIONS.get(name, {})})
    return run(worker, settings, make_shards([1] * CLIENTS), cohorts, algorithm=sending(rows))


# Compared in test_privacy.py: they take weights of 1 only.
OF_PRIVACY = {"dp_ftrl", "dp_gaussian", "local_dp", "secure_sum"}


def test_every_aggregator_is_compared() -> None:
    assert set(AGGREGATORS.names) == set(EXPECTED) | OF_PRIVACY


@pytest.mark.parametrize("name", EXPECTED)
def test_aggregates_as_numpy_does(worker: Worker, make_shards: Make, name: str) -> None:
    """13 clients have a weight, or 12, or 1: the median of an odd number, and of an even one."""
    rows = updates()
    # One that is clipped, where others are not; and one that is not zeroed.
    alone = [CLIENTS - 1] if name == "clipped_mean" else [5]
    cohorts = [list(range(CLIENTS)), list(range(CLIENTS - 1)), alone]
    ended = aggregated(worker, make_shards, name, rows, *cohorts)
    for cohort, weights, measured in zip(cohorts, ended.weights_by_round, ended.rounds, strict=True):
        mine = [part[cohort] for part in rows]
        if cohort == [CLIENTS - 1]:
            wanted = [part[0] * np.float32(2.0 / norms_of(mine)[0]) for part in mine]
            assert norms_of(mine)[0] > 2.0
        else:
            wanted = EXPECTED[name](mine, MASSES[cohort])
        for actual, value in zip(weights, wanted, strict=True):
            np.testing.assert_allclose(actual, value, rtol=0, atol=1e-6)
        assert int(measured["clients"]) == len(cohort)


@pytest.mark.parametrize("name", EXPECTED)
def test_clients_whose_updates_are_not_finite_are_left_out(worker: Worker, make_shards: Make, name: str) -> None:
    rows = updates()
    rows[0][3, 100, 2], rows[1][6, 0], rows[1][9, 4] = np.nan, np.inf, -np.inf
    whole = [k for k in range(CLIENTS) if k not in (3, 6, 9)]
    ended = aggregated(worker, make_shards, name, rows, list(range(CLIENTS)))
    wanted = EXPECTED[name]([part[whole] for part in rows], MASSES[whole])
    for actual, value in zip(ended.weights, wanted, strict=True):
        np.testing.assert_allclose(actual, value, rtol=0, atol=1e-6)
    assert (int(ended.rounds[0]["non_finite"]), int(ended.rounds[0]["clients"])) == (3, 11)


def test_a_share_that_is_a_little_less_in_floating_point_trims_no_client_less() -> None:
    """0.29 x 100 is 28.999999999999996."""
    settings = train_settings(model="logistic_regression", aggregator="trimmed_mean", trimmed_mean={"trim": 0.29})
    rows = np.square(np.arange(100, dtype=np.float32))
    task = Task(model_of(settings), settings, 100)
    (actual,), _ = AGGREGATORS.of("trimmed_mean").finish(task, (), [tf.constant(rows[::-1])], None, None)
    assert float(actual) == pytest.approx(rows[29:71].mean(), rel=1e-6)


def test_left_out_clients_are_counted(worker: Worker, make_shards: Make) -> None:
    """Of 12 clients with a weight: one is kept, eight, eight; or those whose norm is at most 2."""
    rows, cohort = updates(), list(range(CLIENTS - 1))
    long = int((norms_of([part[cohort] for part in rows])[MASSES[cohort] > 0] > 2.0).sum())
    assert 0 < long < 12
    for name, expected in {"krum": 11, "multi_krum": 4, "bulyan": 4, "zeroed_mean": long}.items():
        ended = aggregated(worker, make_shards, name, rows, cohort, [2])
        assert [int(measured["left_out"]) for measured in ended.rounds] == [expected, 0], name
    assert "left_out" not in aggregated(worker, make_shards, "median", rows, cohort).rounds[0]


WITHOUT_NOISE = [name for name, aggregator in AGGREGATORS.all() if not aggregator.is_private]


@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_nobody_to_aggregate_gives_zeros(worker: Worker, make_shards: Make, name: str) -> None:
    """A cohort with a client that has no weight. With noise on it, it must not show: test_privacy.py.

    Without clients the server takes no step, and its weights stay.
    """
    settings = train_settings(
        model="logistic_regression", aggregator=name, client_weighting=weighting(name), **{name: {}}
    )
    cohorts = [[1, 4, 5], [2], [1, 4, 5], []]  # so that zeros are not what was there before
    ended = run(worker, settings, make_shards([1] * CLIENTS), cohorts, algorithm=sending(updates()))
    nobody = [not any(w.any() for w in weights) for weights in ended.weights_by_round]
    assert nobody == [False, True, False, False]
    assert same_bits(ended.weights_by_round[2], ended.weights_by_round[3])
    assert [int(measured["clients"]) for measured in ended.rounds] == [len(cohort) for cohort in cohorts]


def test_one_far_away_does_not_matter(worker: Worker, make_shards: Make) -> None:
    """An update as long as float32 squares allow: the robust ones stay among the others, the mean does not."""
    rows = updates()
    for part in rows:
        part[7] = 1e15
    names = "mean", "trimmed_mean", "multi_krum", "bulyan", "geometric_median"
    actual = {name: aggregated(worker, make_shards, name, rows, list(range(CLIENTS))) for name in names}
    largest = {name: max(float(np.abs(w).max()) for w in ended.weights) for name, ended in actual.items()}
    assert largest["mean"] > 1e13
    assert all(largest[name] < 0.3 for name in ("trimmed_mean", "multi_krum", "bulyan"))
    assert largest["geometric_median"] < 1e-3 * largest["mean"]  # after eight steps


@pytest.mark.parametrize(("name", "smallest"), [("krum", 7), ("multi_krum", 7), ("bulyan", 11)])
def test_small_cohorts_are_refused(name: str, smallest: int) -> None:
    section = {"aggregator": name, name: {"attackers": 2}}
    train_settings(**section, clients_per_round=smallest)
    with pytest.raises(ValueError, match=f"'train.aggregator' {name} needs {smallest} clients in a round, and a round"):
        train_settings(**section, clients_per_round=smallest - 1)


def test_bulyan_bears_updates_whose_distances_are_infinite(worker: Worker, make_shards: Make) -> None:
    """In float32; only those of the attackers are so far away."""
    rows = [np.array(part) for part in updates()]
    for part in rows:
        part[[1, 4]] *= 1e25
    actual = run(
        worker,
        train_settings(model="logistic_regression", aggregator="bulyan", bulyan={"attackers": 2}),
        make_shards([1] * CLIENTS),
        [list(range(CLIENTS))],
        algorithm=sending(rows),
    )
    assert all(np.abs(part).max() < 1 for part in actual.weights)
