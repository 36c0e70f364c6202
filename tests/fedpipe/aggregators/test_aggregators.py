"""Every aggregator against NumPy, on updates that are given rather than trained."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.config.train import AGGREGATORS
from fedpipe.learning.interface import Contribution
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import weighting
from tests.fedpipe.training import Ended, run, train_settings

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
        measured = OrderedDict(loss=tf.constant(0.0), correct=tf.constant(0, tf.int64), seen=tf.constant(1, tf.int64))
        mine = [tf.gather(tf.constant(part), client.id) for part in rows]
        return Contribution(mine, tf.gather(tf.constant(MASSES), client.id), measured)

    return SimpleNamespace(
        client_update=client_update, server_update=lambda task, server, total: server._replace(weights=total.update)
    )


def mean(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    return [np.tensordot(masses / masses.sum(), part, 1) for part in rows]


def clipped(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    norms = np.sqrt(sum(np.square(part).reshape(len(part), -1).sum(axis=1) for part in rows))
    assert (norms < 2.0).any() and (norms > 2.0).any()
    factors = np.minimum(1, 2.0 / norms).astype(np.float32)
    return mean([part * factors.reshape(-1, *[1] * (part.ndim - 1)) for part in rows], masses)


def median(rows: list[np.ndarray], masses: np.ndarray) -> list[np.ndarray]:
    return [np.median(part[masses > 0], axis=0) for part in rows]


EXPECTED = {"mean": mean, "clipped_mean": clipped, "median": median}


def aggregated(worker: Worker, make_shards: Make, name: str, rows: list[np.ndarray], cohort: list[int]) -> Ended:
    settings = train_settings(model="logistic_regression", aggregator=name, clipped_mean={"norm": 2.0})
    return run(worker, settings, make_shards([1] * CLIENTS), [cohort], algorithm=sending(rows))


def test_every_aggregator_is_here() -> None:
    assert set(EXPECTED) <= set(AGGREGATORS.names)


@pytest.mark.parametrize("cohort", [list(range(CLIENTS)), list(range(CLIENTS - 1)), [5]])
@pytest.mark.parametrize("name", EXPECTED)
def test_values(worker: Worker, make_shards: Make, name: str, cohort: list[int]) -> None:
    """13 clients have a weight, or 12, or 1: the median of an odd number, and of an even one."""
    rows = updates()
    if cohort == [5]:
        rows = [part * 3 for part in rows]  # so that it is clipped, and others are not
    expected = EXPECTED[name]
    if cohort == [5] and name == "clipped_mean":
        norm = np.sqrt(sum(float(np.square(part[5]).sum()) for part in rows))
        wanted = [part[5] * np.float32(2.0 / norm) for part in rows]
    else:
        wanted = expected([part[cohort] for part in rows], MASSES[cohort])
    ended = aggregated(worker, make_shards, name, rows, cohort)
    for found, value in zip(ended.weights, wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-6)
    assert int(ended.rounds[0]["clients"]) == len(cohort)


@pytest.mark.parametrize("name", EXPECTED)
def test_clients_whose_updates_are_not_finite_are_left_out(worker: Worker, make_shards: Make, name: str) -> None:
    rows = updates()
    rows[0][3, 100, 2], rows[1][6, 0], rows[1][9, 4] = np.nan, np.inf, -np.inf
    whole = [k for k in range(CLIENTS) if k not in (3, 6, 9)]
    ended = aggregated(worker, make_shards, name, rows, list(range(CLIENTS)))
    wanted = EXPECTED[name]([part[whole] for part in rows], MASSES[whole])
    for found, value in zip(ended.weights, wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-6)
    assert (int(ended.rounds[0]["non_finite"]), int(ended.rounds[0]["clients"])) == (3, 11)


@pytest.mark.parametrize("cohort", [[], [2]])
@pytest.mark.parametrize("name", AGGREGATORS.names)
def test_nobody_to_aggregate_gives_zeros(worker: Worker, make_shards: Make, name: str, cohort: list[int]) -> None:
    """A cohort without clients, or with one that has no weight. With noise on it, it must not show."""
    if hasattr(AGGREGATORS.module(name), "mechanism"):
        pytest.skip("tests/fedpipe/aggregators/test_privacy.py")
    settings = train_settings(
        model="logistic_regression", aggregator=name, client_weighting=weighting(name), **{name: {}}
    )
    ended = run(worker, settings, make_shards([1] * CLIENTS), [cohort], algorithm=sending(updates()))
    assert not any(w.any() for w in ended.weights) and int(ended.rounds[0]["clients"]) == len(cohort)
