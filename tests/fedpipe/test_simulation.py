"""What `fedpipe.simulate` returns beside weights and rounds: personal models, clusters, and the privacy spent."""

from typing import Any

import numpy as np
import pytest

import fedpipe
from fedpipe.datasets.shards import Shards
from fedpipe.evaluation.personal import accuracy_of_own
from fedpipe.networks.personal_weights import PersonalModels
from fedpipe.simulation import Personal
from tests.fedpipe.training import same_bits

CLIENTS = 4
SMALL = {
    "model": "logistic_regression",
    "rounds": 2,
    "batch_size": 5,
    "evaluate_every": 0,
    "client_optimizer": {"learning_rate": 0.1},
}


@pytest.fixture(scope="module")
def arrays(training_set: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    images, labels = (part[:60] for part in training_set)
    return images, labels, np.array_split(np.arange(60), CLIENTS)


def simulate(arrays: tuple[Any, ...], **changes: Any) -> fedpipe.Simulation:
    return fedpipe.simulate(*arrays, fedpipe.train_settings(**SMALL | changes), classes=10)


def test_personal_models_are_those_of_the_file_of_the_pipeline(arrays: tuple[Any, ...], tmp_path: Any) -> None:
    settings = fedpipe.train_settings(**SMALL | {"algorithm": "ditto"})
    result = fedpipe.simulate(*arrays, settings, classes=10, folder=tmp_path)
    personal = result.personal
    assert personal is not None and result.clusters is None
    models = PersonalModels.open(tmp_path / "models_of_clients.safetensors", result.network, CLIENTS)
    assert models is not None
    for client in range(CLIENTS):
        assert same_bits(personal.weights(client), models.of(client))
        assert not same_bits(personal.weights(client), result.weights)
    accuracies = accuracy_of_own(result.network, personal.weights, tmp_path / "shards", 8)
    shards = Shards.open(tmp_path / "shards")
    for client, accuracy in enumerate(accuracies):
        images, labels = shards.read(*shards.offsets[client : client + 2])
        probabilities = personal.predict(client, images)
        assert probabilities.shape == (len(images), 10) and np.allclose(probabilities.sum(axis=1), 1)
        assert (probabilities.argmax(axis=1) == labels).mean() == accuracy


def test_clients_of_a_cluster_share_a_model(arrays: tuple[Any, ...]) -> None:
    result = simulate(arrays, algorithm="ifca", ifca={"clusters": 2})
    assert result.personal is not None and result.clusters is not None
    np.testing.assert_array_equal(result.personal.client_model, result.clusters)
    for client, cluster in enumerate(result.clusters):
        assert same_bits(result.personal.weights(client), [stacked[cluster] for stacked in result.personal.models])


def test_a_private_simulation_says_what_it_spent(arrays: tuple[Any, ...]) -> None:
    result = simulate(arrays, aggregator="dp_gaussian", client_weighting="uniform")
    assert result.personal is None
    assert set(result.privacy) == {"epsilon_rdp", "epsilon_pld", "delta", "neighbours"}
    assert result.privacy["epsilon_rdp"] == result.rounds[-1].others["epsilon"] > 0


def test_others_have_neither(arrays: tuple[Any, ...]) -> None:
    result = simulate(arrays)
    assert result.personal is None and result.privacy == {} and "epsilon" not in result.rounds[-1].others


def test_a_client_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        Personal(None, [np.zeros((2, 3))], np.array([0, 1])).weights(2)  # type: ignore[arg-type]
