"""Every loss of the folder against NumPy in float64, and its gradient against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import LOSSES

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 10, 30).astype(np.int32)
LOGITS = RNG.normal(size=(30, 10)).astype(np.float32) * 3


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    wanted = np.eye(10)[LABELS] * (1 - smoothing) + smoothing / 10
    return -(wanted * np.log(probabilities(logits))).sum(axis=1)


def squared_error(logits: np.ndarray) -> np.ndarray:
    return ((probabilities(logits) - np.eye(10)[LABELS]) ** 2).sum(axis=1)


def hinge(logits: np.ndarray, margin: float = 1.0) -> np.ndarray:
    others = [max(row[k] for k in range(10) if k != label) for row, label in zip(logits, LABELS, strict=True)]
    return np.maximum(0, margin + np.array(others, np.float64) - logits[np.arange(30), LABELS])


CASES: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("cross_entropy", {}, cross_entropy),
    ("cross_entropy", {"label_smoothing": 0.1}, lambda logits: cross_entropy(logits, 0.1)),
    ("squared_error", {}, squared_error),
    ("hinge", {}, hinge),
    ("hinge", {"margin": 2.5}, lambda logits: hinge(logits, 2.5)),
]


NUMBERS = np.random.default_rng(3).uniform(size=(30, 4)).astype(np.float32)
OUTPUTS = np.random.default_rng(4).normal(0, 2, (30, 4)).astype(np.float32)


def huber(outputs: np.ndarray, delta: float = 1.0) -> np.ndarray:
    error = np.abs(outputs - NUMBERS)
    return np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean(axis=1)


def binary(outputs: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    return -(NUMBERS * np.log(p) + (1 - NUMBERS) * np.log(1 - p)).mean(axis=1)


OF_NUMBERS: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("squared_error", {}, lambda outputs: ((outputs - NUMBERS) ** 2).mean(axis=1)),
    ("huber", {}, huber),
    ("huber", {"delta": 0.3}, lambda outputs: huber(outputs, 0.3)),
    ("binary_cross_entropy", {}, binary),
]


@pytest.mark.parametrize(("name", "params", "expected"), OF_NUMBERS)
def test_values_and_gradients_of_numbers(name: str, params: dict, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    outputs = tf.constant(OUTPUTS)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        losses = LOSSES.of(name).losses(LOSSES.of(name).Params(**params), tf.constant(NUMBERS), outputs)
        total = tf.reduce_sum(losses)
    np.testing.assert_allclose(losses, expected(OUTPUTS.astype(np.float64)), rtol=2e-6, atol=2e-6)
    slopes = np.zeros((30, 4))
    for k in range(4):
        nudge = np.zeros((30, 4))
        nudge[:, k] = 1e-6
        slopes[:, k] = (expected(OUTPUTS + nudge) - expected(OUTPUTS - nudge)) / 2e-6
    np.testing.assert_allclose(tape.gradient(total, outputs), slopes, atol=1e-5)


def test_binary_cross_entropy_of_two_classes_is_cross_entropy() -> None:
    labels, logits = tf.constant(LABELS % 2), tf.constant(LOGITS[:, :2])
    two, many = (LOSSES.of(name).losses(LOSSES.of(name).Params(), labels, logits) for name in PAIR)
    np.testing.assert_allclose(two, many, rtol=2e-6, atol=2e-6)


PAIR = ("binary_cross_entropy", "cross_entropy")


def test_every_loss_is_here() -> None:
    assert {name for name, *_ in (*CASES, *OF_NUMBERS)} == set(LOSSES.names)


@pytest.mark.parametrize(("name", "params", "expected"), CASES)
def test_values_and_gradients(name: str, params: dict, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    """float32 against float64: 1e-6 of values of about 10."""
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = LOSSES.of(name).losses(LOSSES.of(name).Params(**params), tf.constant(LABELS), logits)
        total = tf.reduce_sum(losses)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, expected(LOGITS), rtol=2e-6, atol=2e-6)
    step = 1e-6
    slopes = np.zeros((30, 10))
    for k in range(10):
        nudge = np.zeros((30, 10))
        nudge[:, k] = step
        slopes[:, k] = (expected(LOGITS + nudge) - expected(LOGITS - nudge)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(total, logits), slopes, atol=1e-5)


def test_smoothing_by_nothing_is_the_plain_loss() -> None:
    module, params = LOSSES.of("cross_entropy"), LOSSES.of("cross_entropy").Params
    plain, tiny = (module.losses(params(label_smoothing=s), tf.constant(LABELS), LOGITS) for s in (0.0, 1e-7))
    np.testing.assert_allclose(plain, tiny, rtol=1e-5)
