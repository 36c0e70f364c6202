"""The adaptive optimizers, TFF's and those of Reddi et al. 2021, against the formulas in plain NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.learning.optimizers import RoundOptimizer
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import first_weights, run, train_settings

GRADIENTS = [np.array(g, np.float32) for g in ([0.5, -0.01, 0.0], [0.1, 0.02, 1e-4], [-0.3, 0.0, 2.0])]


def stepped(**changes: Any) -> np.ndarray:
    optimizer = RoundOptimizer(train_settings(server_optimizer={"learning_rate": 0.1} | changes).server_optimizer, 3)
    weights = [tf.zeros(3)]
    state = optimizer.start(weights)
    for gradient in GRADIENTS:
        state, weights = optimizer.step(state, weights, [tf.constant(gradient)])
    return weights[0].numpy()


@pytest.mark.parametrize(("epsilon", "start"), [(1e-3, 1e-6), (0.1, 0.5)])
def test_tffs_adagrad_follows_its_formula(epsilon: float, start: float) -> None:
    weights, squares = np.zeros(3), np.full(3, start)
    for gradient in GRADIENTS:
        squares += gradient**2
        weights -= 0.1 * gradient / np.sqrt(squares + epsilon)  # TFF has it under the root
    np.testing.assert_allclose(
        stepped(name="adagrad", epsilon=epsilon, initial_accumulator=start), weights, atol=1e-6, rtol=1e-4
    )


def of_the_paper(name: str, tau: float, beta_1: float, beta_2: float, start: float) -> np.ndarray:
    """Algorithm 2, line by line, with its Delta: what the mean client moved by."""
    x, m, v = np.zeros(3), np.zeros(3), np.full(3, start)
    for gradient in GRADIENTS:
        delta = -gradient.astype(np.float64)
        m = beta_1 * m + (1 - beta_1) * delta
        if name == "fed_adagrad":
            v = v + delta**2
        elif name == "fed_yogi":
            v = v - (1 - beta_2) * delta**2 * np.sign(v - delta**2)
        else:
            v = beta_2 * v + (1 - beta_2) * delta**2
        x = x + 0.1 * m / (np.sqrt(v) + tau)
    return x


@pytest.mark.parametrize("name", ["fed_adagrad", "fed_adam", "fed_yogi"])
def test_fed_adagrad_fed_adam_and_fed_yogi_are_those_of_algorithm_2(name: str) -> None:
    beta_1 = 0.0 if name == "fed_adagrad" else 0.9
    defaults = of_the_paper(name, 1e-3, beta_1, 0.99, 1e-6)
    np.testing.assert_allclose(stepped(name=name), defaults, atol=1e-6, rtol=2e-5)
    others = {"epsilon": 0.1, "beta_1": 0.3, "initial_accumulator": 0.2}
    if name != "fed_adagrad":
        others["beta_2"] = 0.6
    actual = stepped(name=name, **others)
    np.testing.assert_allclose(actual, of_the_paper(name, 0.1, 0.3, 0.6, 0.2), atol=1e-7, rtol=2e-5)
    assert np.abs(actual - defaults).max() > 0.01


def test_a_schedule_scales_the_steps_of_fed_adam() -> None:
    settings = train_settings(
        rounds=3,
        server_optimizer={"name": "fed_adam", "learning_rate": 0.1, "schedule": {"name": "step", "factor": 0.5}},
    )
    optimizer, weights = RoundOptimizer(settings.server_optimizer, 3), [tf.zeros(3)]
    state = optimizer.start(weights)
    moves = []
    for number in (1, 3):
        after = optimizer.step(optimizer.at_round(state, tf.constant(number)), weights, [tf.constant(GRADIENTS[0])])[1]
        moves.append(after[0].numpy())
    np.testing.assert_allclose(moves[1], moves[0] / 4, rtol=1e-6)


def test_the_first_round_moves_by_fed_yogis_first_step(
    worker: Worker, make_shards: Callable[[list[int]], Path]
) -> None:
    shards, training = make_shards([6, 9]), {"model": "logistic_regression", "rounds": 1}
    started = first_weights(train_settings(**training))
    plain, adaptive = (
        run(worker, train_settings(**training, server_optimizer=optimizer), shards, [[0, 1]])
        for optimizer in ({"learning_rate": 1.0}, {"name": "fed_yogi", "learning_rate": 0.1})
    )
    for first, mean, actual in zip(started, plain.weights, adaptive.weights, strict=True):
        delta = (mean - first).astype(np.float64)
        v = 1e-6 - 0.01 * delta**2 * np.sign(1e-6 - delta**2)
        np.testing.assert_allclose(actual - first, 0.1 * 0.1 * delta / (np.sqrt(v) + 1e-3), atol=2e-6)


@pytest.mark.parametrize("name", ["adam", "adagrad", "rmsprop", "yogi"])
def test_epsilon_counts_and_the_defaults_stay(name: str) -> None:
    default = {"yogi": 1e-3}.get(name, 1e-7)
    assert stepped(name=name).tobytes() == stepped(name=name, epsilon=default).tobytes()
    assert (np.abs(stepped(name=name, epsilon=1.0)[:2]) < np.abs(stepped(name=name)[:2])).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "adam", "beta_1": 0.5}, "adam takes no beta_1 and beta_2 here: leave them out, or set the name"),
        ({"name": "fed_adagrad", "beta_2": 0.5}, "fed_adagrad forgets nothing: leave beta_2 out"),
        ({"name": "fed_yogi", "epsilon": 0.0}, "set epsilon above 0.0, or leave it out"),
        ({"name": "fed_adam", "momentum": 0.9}, "fed_adam takes no momentum"),
        ({"name": "sgd", "epsilon": 1e-3}, "sgd has no epsilon: leave it out, or set the name"),
        (
            {"name": "adam", "initial_accumulator": 0.1},
            "adam has no initial_accumulator: leave it out, or set the name",
        ),
    ],
)
def test_what_an_optimizer_does_not_have_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        train_settings(server_optimizer=changes)
