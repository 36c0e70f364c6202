"""Every compressor against NumPy: what the server decodes, what the client keeps, and the bytes."""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard as hadamard_matrix

from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.lazy import tf
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import hadamard, joined, parted, random_signs
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.training import cohort_of, model_of, run, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]
ENTRIES = 7850
FLOATS = st.floats(-100, 100, width=32)


@lru_cache
def task_of(name: str, section: tuple[tuple[str, Any], ...]) -> Task:
    settings = train_settings(model="logistic_regression", compressor=name, **{name: dict(section)})
    return Task(model_of(settings), settings, 10)


def compressed(name: str, section: Any, update: list[np.ndarray], residual: Any = (), client: int = 1) -> Any:
    """(update, residual, bytes) as arrays and a number."""
    task = task_of(name, tuple(section.items()))
    who: Any = SimpleNamespace(id=tf.constant(client), round=tf.constant(1))
    arguments = [tf.constant(part) for part in update], who, [tf.constant(part) for part in residual]
    sent, kept, size = COMPRESSORS.of(name).compress(task, *arguments)
    return [part.numpy() for part in sent], [part.numpy() for part in kept], int(size)


def drawn(seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) * 0.01 for shape in ((784, 10), (10,))]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_quantised_entries_are_the_nearest_levels(bits: int) -> None:
    update = drawn()
    sent, _, size = compressed("quantisation", {"bits": bits, "rounding": "nearest"}, update)
    for part, actual in zip(update, sent, strict=True):
        step = (part.max() - part.min()) / (2**bits - 1)
        np.testing.assert_allclose(actual, part.min() + np.round((part - part.min()) / step) * step, atol=1e-7)
        assert np.abs(actual - part).max() <= step / 2 + 1e-7
        assert len(np.unique(actual)) <= 2**bits
    assert size == 7840 * bits // 8 + math.ceil(10 * bits / 8) + 2 * 8


@pytest.mark.parametrize("rotate", [False, True])
def test_stochastic_rounding_is_right_on_average(rotate: bool) -> None:
    update, clients = drawn(), 100
    section = {"bits": 2, "rounding": "stochastic", "rotate": rotate}
    actual = np.array([compressed("quantisation", section, update, client=k)[0][1] for k in range(clients)])
    error = np.abs(actual - update[1])
    assert np.abs(actual.mean(axis=0) - update[1]).max() < 4 * error.max() / math.sqrt(clients)
    assert error.mean() > 0.001  # of a single client


@with_settings(max_examples=30)
@given(arrays(np.float32, 12, elements=FLOATS), st.integers(1, 12), st.sampled_from(["stochastic", "nearest"]))
def test_quantised_entries_are_next_to_the_exact_ones(values: np.ndarray, bits: int, rounding: str) -> None:
    (actual,), _, size = compressed("quantisation", {"bits": bits, "rounding": rounding}, [values])
    step = float(values.max() - values.min()) / (2**bits - 1)
    assert np.abs(actual - values).max() <= step * 1.001 + 1e-4
    assert size == math.ceil(12 * bits / 8) + 8


def test_two_tensors_are_rounded_by_draws_of_their_own() -> None:
    part = drawn()[1]
    sent, _, _ = compressed("quantisation", {"bits": 2, "rounding": "stochastic"}, [part, part])
    assert (sent[0] != sent[1]).any()


def test_rotation_helps_where_one_entry_is_large() -> None:
    update = drawn()
    update[0][0, 0] = 5.0
    errors, sizes = [], []
    for rotate in (False, True):
        sent, _, size = compressed("quantisation", {"bits": 4, "rounding": "nearest", "rotate": rotate}, update)
        errors.append(np.sqrt(np.square(sent[0] - update[0]).mean()))
        sizes.append(size)
    assert errors[1] < errors[0] / 2
    assert sizes[1] == (8192 + 16) // 2 + 2 * 8 + 8


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_the_hadamard_transform_is_that_of_its_matrix_and_its_own_inverse(size: int) -> None:
    vector = np.random.default_rng(size).normal(size=size).astype(np.float32)
    actual = hadamard(tf.constant(vector))
    np.testing.assert_allclose(actual, hadamard_matrix(size) @ vector / math.sqrt(size), atol=1e-6)
    np.testing.assert_allclose(hadamard(actual), vector, atol=1e-6)
    assert set(np.unique(random_signs(1000, tf.constant([1, 2])).numpy())) == {-1.0, 1.0}


def test_tensors_joined_and_parted_are_the_same() -> None:
    tensors = [tf.constant(part) for part in drawn()]
    assert same_bits([part.numpy() for part in parted(joined(tensors), tensors)], drawn())


@pytest.mark.parametrize("name", ["top_k", "random_k"])
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_what_is_sent_and_what_is_kept_is_what_was_due(name: str, share: float) -> None:
    update, residual, count = drawn(1), drawn(2), math.ceil(share * ENTRIES)
    sent, kept, size = compressed(name, {"share": share}, update, residual)
    due = [u + r for u, r in zip(update, residual, strict=True)]
    for s, k, d in zip(sent, kept, due, strict=True):
        np.testing.assert_array_equal(s + k, d)
        assert not (s * k).any()
    flat, actual = (np.concatenate([part.ravel() for part in parts]) for parts in (due, sent))
    assert (actual != 0).sum() == count
    if name == "top_k":
        largest = np.argsort(-np.abs(flat), kind="stable")[:count]
        np.testing.assert_array_equal(np.flatnonzero(actual), np.sort(largest))
        assert size == 4 * count + math.ceil(min(13 * count, ENTRIES) / 8)
    else:
        assert size == 4 * count + 8


def test_random_places_are_others_for_other_clients() -> None:
    first, other = (compressed("random_k", {"share": 0.1}, drawn(), drawn(), client=k)[0][0] != 0 for k in (1, 2))
    assert 0.005 < (first & other).mean() < 0.015  # a tenth of a tenth


@with_settings(max_examples=30)
@given(st.lists(arrays(np.float32, 9, elements=FLOATS), min_size=1, max_size=5), st.floats(0.01, 1))
def test_error_feedback_loses_nothing(updates: list[np.ndarray], share: float) -> None:
    """Over any rounds, what was sent and what is kept add up to all updates."""
    residual, total = [np.zeros(9, np.float32)], np.zeros(9)
    for update in updates:
        (sent,), residual, _ = compressed("top_k", {"share": share}, [update], residual)
        total += sent
    np.testing.assert_allclose(total + residual[0], np.sum(updates, axis=0, dtype=float), atol=1e-3)


def test_trainings_keep_residuals_and_count_bytes(worker: Worker, make_shards: Make) -> None:
    """Two rounds of top-k against NumPy; bytes up are those of the packed update, and nothing of the float32 one."""
    shards, sizes = make_shards([30, 20]), [30, 20]
    settings = train_settings(**reference.TRAINING, compressor="top_k", top_k={"share": 0.05})
    ended = run(worker, settings, shards, [[0, 1], [0, 1]])
    from tests.fedpipe.training import first_weights

    weights, count = first_weights(settings), math.ceil(0.05 * ENTRIES)
    residuals = [np.zeros(ENTRIES, np.float32) for _ in sizes]
    for _ in range(2):
        sent = []
        for client, residual in enumerate(residuals):
            update = reference.sgd(weights, reference.samples_of(shards, client), settings)[0]
            due = np.concatenate([part.ravel() for part in update]) + residual
            mask = np.zeros(ENTRIES, bool)
            mask[np.argsort(-np.abs(due), kind="stable")[:count]] = True
            residuals[client] = np.where(mask, 0, due)
            part = np.where(mask, due, 0)
            sent.append([part[:7840].reshape(784, 10), part[7840:]])
        weights = reference.moved(weights, reference.mean(sent, sizes))
    reference.assert_close(ended.weights, weights)
    size = 4 * count + math.ceil(13 * count / 8)
    assert [measured["compressed_bytes"] for measured in ended.rounds] == [2 * size, 2 * size]
    assert ended.bytes[1] == 0
    record = RoundRecord.of(1, cohort_of([0, 1]), ended.measured[0], ClientBytes(*ended.bytes), {})
    assert record.bytes_up == 2 * size and "compressed_bytes" not in record.row()


def test_a_client_without_a_step_sends_no_compressed_update(worker: Worker, make_shards: Make) -> None:
    settings = train_settings(**reference.TRAINING, compressor="random_k", random_k={"share": 0.1})
    alone, beside = runs(worker, settings, make_shards([20, 0]), [[[0]], [[0, 1]]])
    assert alone.rounds[0]["compressed_bytes"] == beside.rounds[0]["compressed_bytes"] > 0


def test_a_client_whose_update_is_not_finite_keeps_its_residual(worker: Worker, make_shards: Make) -> None:
    """Top-k may send a finite part of such an update."""
    shards = make_shards([20, 20])
    settings = train_settings(
        **reference.TRAINING | {"client_optimizer": {"learning_rate": 1e38}}, compressor="top_k", top_k={"share": 0.001}
    )
    ended = run(worker, settings, shards, [[0, 1]])
    assert ended.rounds[0]["non_finite"] == 2
    assert all(np.isfinite(kept).all() and not kept.any() for kept in ended.kept.values())


@pytest.mark.slow  # tests/fedpipe/test_bits.py has one setting of each
@pytest.mark.parametrize("name", ["quantisation", "random_k"])
def test_a_second_training_has_the_same_bits(worker: Worker, make_shards: Make, name: str) -> None:
    settings = train_settings(**reference.TRAINING, compressor=name)
    shards = make_shards([30, 20, 10])
    first, other = runs(worker, settings, shards, [[[0, 1, 2], [1, 2]]] * 2)
    assert same_bits(first.weights, other.weights)
