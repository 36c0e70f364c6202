"""FedAvg against plain NumPy, with everything that params.yaml can ask of local training and of the server's step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.learning.interface import Client
from fedpipe.learning.local_training import _order
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


# What params.yaml says, and what the reference then does in rounds 1, 2 and 3.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "uniform": ({"client_weighting": "uniform"}, {}),
    "server rate": ({"server_optimizer": {"learning_rate": 0.5}}, {"server_rates": [0.5] * 3}),
    "server momentum": ({"server_optimizer": {"learning_rate": 0.5, "momentum": 0.9}}, {"server_rates": [0.5] * 3}),
    "client momentum": ({"client_optimizer": {"momentum": 0.5}}, {}),
    "drop": ({"last_batch": "drop"}, {}),
    "shuffle": ({"shuffle": True}, {}),
    "weight decay": ({"client_optimizer": {"weight_decay": 0.1}}, {}),
    "clip norm": ({"client_optimizer": {"clip_norm": 0.5}}, {}),
    "client schedule": (
        {"client_optimizer": {"schedule": {"name": "exponential", "factor": 0.25, "every": 1, "warm_up": 1}}},
        {"client_rates": [0.05, 0.1, 0.025]},
    ),
    "server schedule": (
        {"rounds": 3, "server_optimizer": {"schedule": {"name": "cosine", "rounds": 2, "end": 0.1}}},
        {"server_rates": [1.0, 0.55, 0.1]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_trains_as_its_paper_says_and_measures_what_it_saw(worker: Worker, make_shards: Make, case: str) -> None:
    changes, expected = CASES[case]
    optimizer = TRAINING["client_optimizer"] | changes.get("client_optimizer", {})
    settings = train_settings(**TRAINING | changes | {"client_optimizer": optimizer})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)

    weights = first_weights(settings)
    velocity = [np.zeros_like(w) for w in weights]
    for number, cohort in enumerate(COHORTS, 1):
        updates, masses, loss, seen, examples = [], [], 0.0, 0, 0
        for client in cohort:
            samples = reference.samples_of(shards, client)
            rate = expected["client_rates"][number - 1] if "client_rates" in expected else None
            orders = drawn_orders(settings, client, number, len(samples.y)) if settings.shuffle else None
            update, steps, client_loss = reference.sgd(weights, samples, settings, rate, orders=orders)
            updates.append(update)
            masses.append((len(samples.y) if settings.client_weighting == "examples" else 1.0) if steps else 0.0)
            loss += client_loss
            examples += len(samples.y) if steps else 0
            seen += sum(len(batch.y) for batch in reference.batches(samples, settings))
        mean = reference.mean(updates, masses)
        velocity = [np.float32(settings.server_optimizer.momentum) * v + m for v, m in zip(velocity, mean, strict=True)]
        weights = reference.moved(weights, velocity, expected.get("server_rates", [1.0] * 3)[number - 1])
        measured = ended.rounds[number - 1]
        np.testing.assert_allclose(float(measured["loss"]) / int(measured["seen"]), loss / seen, rtol=1e-6)
        assert int(measured["seen"]) == seen and int(measured["examples"]) == examples
        assert int(measured["clients"]) == sum(mass > 0 for mass in masses) and not int(measured["non_finite"])
    reference.assert_close(ended.weights, weights)


def drawn_orders(settings: Any, client: int, number: int, samples: int) -> list[np.ndarray]:
    """The orders are drawn, so they are taken as they are; tests/fedpipe/learning/test_shuffle.py looks at them."""
    request = Client(None, None, tf.constant(client), tf.constant(number))
    return list(_order(settings, request, tf.constant(samples), tf.constant(settings.local_epochs)).numpy())


def test_the_weights_are_sent_down_and_an_update_up(worker: Worker, make_shards: Make) -> None:
    ended = run(worker, train_settings(**TRAINING), make_shards([5]), [[0]])
    assert ended.bytes == (7_850 * 4, 7_850 * 4)
