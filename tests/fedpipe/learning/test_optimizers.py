"""The adaptive optimizers with an epsilon and a start of their own, against the formulas in plain NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.learning.optimizers import RoundOptimizer
from tests.fedpipe.training import train_settings

GRADIENTS = [np.array(g, np.float32) for g in ([0.5, -0.01, 0.0], [0.1, 0.02, 1e-4], [-0.3, 0.0, 2.0])]


def stepped(**changes: Any) -> np.ndarray:
    optimizer = RoundOptimizer(train_settings(server_optimizer={"learning_rate": 0.1} | changes).server_optimizer, 3)
    weights = [tf.zeros(3)]
    state = optimizer.start(weights)
    for gradient in GRADIENTS:
        state, weights = optimizer.step(state, weights, [tf.constant(gradient)])
    return weights[0].numpy()


@pytest.mark.parametrize(("epsilon", "start"), [(1e-3, 1e-6), (0.1, 0.5)])
def test_adagrad(epsilon: float, start: float) -> None:
    weights, squares = np.zeros(3), np.full(3, start)
    for gradient in GRADIENTS:
        squares += gradient**2
        weights -= 0.1 * gradient / np.sqrt(squares + epsilon)  # TFF has it under the root
    np.testing.assert_allclose(
        stepped(name="adagrad", epsilon=epsilon, initial_accumulator=start), weights, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["adam", "adagrad", "rmsprop", "yogi"])
def test_epsilon_counts_and_the_defaults_stay(name: str) -> None:
    default = {"yogi": 1e-3}.get(name, 1e-7)
    assert stepped(name=name).tobytes() == stepped(name=name, epsilon=default).tobytes()
    assert (np.abs(stepped(name=name, epsilon=1.0)[:2]) < np.abs(stepped(name=name)[:2])).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "sgd", "epsilon": 1e-3}, "sgd has no epsilon: leave it out, or set the name"),
        (
            {"name": "adam", "initial_accumulator": 0.1},
            "adam has no initial_accumulator: leave it out, or set the name",
        ),
    ],
)
def test_what_an_optimizer_does_not_have_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_settings(server_optimizer=changes)
