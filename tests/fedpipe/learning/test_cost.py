"""Simulated time counts what an algorithm does: the passes that its clients make over their samples, counted here."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.cost import FORWARD
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network
from tests.fedpipe.training import FEDERATED, dense_with_batch_norm, model_of, train_settings

SAMPLES, CLIENTS = 40, 3
# Other values of params that change what is computed.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("scaffold", {"option": 1}),
    ("ifca", {"clusters": 3}),
    ("fed_rep", {"head_epochs": 1}),
]


MODELS: dict[str, dict[str, Any]] = {"fed_bn": {"model": "keras_cnn", "keras_cnn": {"batch_norm": True}}}


class Counted:
    """A model that counts the samples of forward and of backward passes."""

    def __init__(self, model: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forward = self.backward = self._last = 0
        plain, of_training, gradient = model.forward, model.own_train_forward, tf.GradientTape.gradient

        def forward(weights: Any, images: Any, dropout: Any) -> Any:
            self._count(images)
            return plain(weights, images, dropout)

        def train_forward(weights: Any, images: Any, *draws: Any) -> Any:
            self._count(images)
            return of_training(weights, images, *draws)  # type: ignore[misc]

        def backward(tape: Any, *arguments: Any) -> Any:
            self.backward += self._last
            return gradient(tape, *arguments)

        monkeypatch.setattr(tf.GradientTape, "gradient", backward)
        own = None if of_training is None else train_forward
        self.model = replace(model, forward=forward, own_train_forward=own)

    def _count(self, images: Any) -> None:
        self._last = len(images)
        self.forward += self._last


@pytest.mark.parametrize(("name", "params"), [*((name, {}) for name in FEDERATED), *OTHERS])
@pytest.mark.parametrize("work", [1000, 500])
def test_a_clients_passes_over_its_samples_are_those_of_its_cost(
    monkeypatch: pytest.MonkeyPatch, name: str, params: dict[str, Any], work: int
) -> None:
    epochs = {"local_epochs": 1 if name == "fed_sgd" else 2}
    uniform = {"client_weighting": "uniform", "availability": {"devices": {"seconds_per_sample": 1.0}}}
    model = MODELS.get(name, {"model": "mcmahan_2nn"})
    settings = train_settings(algorithm=name, batch_size=10, **{name: params}, **model, **epochs, **uniform)
    counted = Counted((dense_with_batch_norm if name == "fed_bn" else model_of)(settings), monkeypatch)
    task, algorithm = Task(counted.model, settings, CLIENTS), ALGORITHMS.of(name)
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (SAMPLES, 28, 28, 1), np.uint8), rng.integers(0, 10, SAMPLES, np.uint8)
    client = Client(tf.constant(images), tf.constant(labels), tf.constant(1), tf.constant(1), work=tf.constant(work))
    if algorithm.client_init is not None:
        client = client._replace(kept=algorithm.client_init(task))
    server = Server(task.zeros(), (), algorithm.server_init(task), (), tf.constant(1))
    passes = algorithm.steps(task)
    for client_update, _ in passes:
        assert isinstance(client_update(task, server, client), Contribution)
    computed = (FORWARD * counted.forward + (1 - FORWARD) * counted.backward) / SAMPLES
    cost = ALGORITHMS.of(settings.algorithm).cost(settings)
    assert computed == pytest.approx(cost.local * work / 1000 + cost.full)
    assert cost.exchanges == len(passes)
