"""Every metric of the folder against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import METRICS

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 10, 200).astype(np.int32)
LOGITS = RNG.normal(size=(200, 10)).astype(np.float32)

EXPECTED = {
    "accuracy": LOGITS.argmax(axis=1) == LABELS,
    "top_3_accuracy": (np.argsort(-LOGITS, axis=1)[:, :3] == LABELS[:, None]).any(axis=1),
}


def test_every_metric_is_here() -> None:
    assert {*EXPECTED, "mean_absolute_error"} == set(METRICS.names)


def test_the_mean_absolute_error_is_the_mean_over_the_numbers() -> None:
    labels, predicted = RNG.normal(size=(2, 50, 3)).astype(np.float32)
    measured = METRICS.of("mean_absolute_error").per_example(tf.constant(labels), tf.constant(predicted))
    np.testing.assert_allclose(measured, np.abs(labels - predicted).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name: str) -> None:
    actual = METRICS.of(name).per_example(tf.constant(LABELS), tf.constant(LOGITS))
    np.testing.assert_array_equal(actual.numpy().astype(bool), EXPECTED[name])
    assert 0.05 < EXPECTED[name].mean() < 0.6
