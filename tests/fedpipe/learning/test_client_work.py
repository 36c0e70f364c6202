"""The seams of a client's work: what attackers and compressors may change, and that others stay as they are."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.attack import ATTACKS, Attack
from fedpipe.contracts.compressor import COMPRESSORS, Compressor
from fedpipe.lazy import tf
from fedpipe.learning.attackers import attackers
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import first_weights, run, runs, same_bits, train_settings


def chosen(monkeypatch: pytest.MonkeyPatch, registry: Any, choice: Any) -> None:
    monkeypatch.setattr(registry, "of", lambda name: choice)


def test_attackers_are_a_share_drawn_from_the_seed() -> None:
    settings = train_settings().model_copy(update={"attackers": 0.2})
    mask = attackers(settings, 50)
    assert mask.sum() == 10
    assert (mask == attackers(settings, 50)).all()
    assert (mask != attackers(settings.model_copy(update={"seed": 7}), 50)).any()


def test_an_attack_reaches_attackers_only(monkeypatch: pytest.MonkeyPatch, worker: Worker, make_shards: Any) -> None:
    """With honest clients alone it changes nothing; with one of four that sends zeros, the model moves 3 / 4 as far."""
    shards = make_shards([20, 20, 20, 20])
    settings = train_settings().model_copy(update={"attackers": 0.25})
    (attacker,) = np.flatnonzero(attackers(settings, 4))
    honest = [client for client in range(4) if client != attacker]

    def nothing(task: Any, server: Any, client: Any, vector: Any, seed: Any) -> Any:
        return [tf.zeros_like(u) for u in vector]

    expected = run(worker, train_settings(), shards, [honest])
    chosen(monkeypatch, ATTACKS, Attack(vector=nothing))
    without, attacked = runs(worker, settings, shards, [[honest], [range(4)]])
    assert same_bits(without.weights, expected.weights)
    for start, actual, other in zip(first_weights(settings), attacked.weights, expected.weights, strict=True):
        np.testing.assert_allclose(actual - start, 0.75 * (other - start), atol=1e-7)


def test_a_compressor_keeps_its_residual_and_counts_its_bytes(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, make_shards: Any
) -> None:
    """Half of what is due is sent, the rest comes with the next round."""
    shards = make_shards([20, 20])

    def compress(task: Any, update: list[Any], client: Any, residual: list[Any]) -> tuple[Any, Any, Any]:
        due = [u + r for u, r in zip(update, residual, strict=True)]
        return [d / 2 for d in due], [d / 2 for d in due], tf.constant(100, tf.int64)

    settings = train_settings()
    chosen(monkeypatch, COMPRESSORS, Compressor(compress=compress, client_init=lambda task, zeros: zeros))
    ended = run(worker, settings, shards, [[0, 1], [0]])
    assert [measured["compressed_bytes"] for measured in ended.rounds] == [200, 100]
    assert sorted(ended.kept) == ["0.2", "1.1"]
    assert all(np.abs(kept).sum() > 0 for kept in ended.kept.values())


def test_a_client_takes_the_thousandths_of_its_steps_rounded_up(worker: Worker, make_shards: Any) -> None:
    """A client with half of its work takes half of its five steps, rounded up, as one with 60 of its 100 samples."""
    from fedpipe.learning.local_training import train
    from tests.fedpipe.training import model_of

    settings, first = train_settings(), first_weights(train_settings())
    from fedpipe.learning.interface import Client
    from fedpipe.learning.optimizers import RoundOptimizer

    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (100, 28, 28, 1), np.uint8), rng.integers(0, 10, 100, np.uint8)

    def trained(count: int, work: int) -> Any:
        client = Client(tf.constant(images[:count]), tf.constant(labels[:count]), tf.constant(0), tf.constant(1))
        client = client._replace(work=tf.constant(work))
        optimizer = RoundOptimizer(settings.client_optimizer, 1)
        step = tf.function(partial(train, model_of(settings), settings, optimizer), autograph=False)
        return step([tf.constant(w) for w in first], client)

    half, whole = trained(100, 500), trained(60, 1000)
    assert half.steps == whole.steps == 3
    for actual, other in zip(half.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(actual, other)
