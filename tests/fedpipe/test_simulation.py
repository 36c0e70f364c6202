"""What `fedpipe.simulate` returns beside weights and rounds: personal models, clusters, and the privacy spent."""

import asyncio
import os
import re
import signal
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import fedpipe
from fedpipe.datasets.shards import Shards
from fedpipe.evaluation.personal import accuracy_of_own
from fedpipe.networks.personal_weights import PersonalModels
from fedpipe.simulation import Personal
from tests.fedpipe.training import first_weights, model_of, same_bits, train_settings

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


def test_other_arrays_are_not_predicted(arrays: tuple[Any, ...]) -> None:
    """TensorFlow would take images in [0, 1] for black ones."""
    result = simulate(arrays, algorithm="ditto", rounds=1)
    images = arrays[0][:3]
    assert result.personal is not None and result.predict(images).shape == (3, 10)
    for predict in (result.predict, lambda others: result.personal.predict(0, others)):
        for others, message in (
            (images / np.float32(255), "images must be uint8 [n, 28, 28, 1], not float32 [3, 28, 28, 1]"),
            (images[..., 0], "add the channel"),
            (images[:, :14], "as the training images are, not [3, 14, 28, 1]"),
            (images.tolist(), "not list"),
        ):
            with pytest.raises(fedpipe.PipelineError, match=re.escape(message)):
                predict(others)


MOVING = {
    "algorithm": "scaffold",
    "clients_per_round": 2,
    "evaluate_every": 2,
    "compressor": "top_k",
    "top_k": {"share": 0.1},
    "client_optimizer": {"learning_rate": 0.1, "schedule": {"name": "step", "every": 2, "factor": 0.5}},
}


def test_more_rounds_have_the_bits_of_as_many_from_the_start(arrays: tuple[Any, ...]) -> None:
    """Also where the earlier training's last round was evaluated and the longer one's is not, and once more."""
    test = arrays[0], arrays[1]

    def train(rounds: int) -> fedpipe.Simulation:
        settings = fedpipe.train_settings(**SMALL | MOVING | {"rounds": rounds})
        return fedpipe.simulate(*arrays, settings, classes=10, test=test, progress=False)

    whole, part = train(4), train(1)
    assert part.rounds[0].test_accuracy is not None and whole.rounds[0].test_accuracy is None
    middle = part.continue_(2, progress=False)
    for _ in range(2):  # the result in the middle stays as it is
        longer = middle.continue_(np.int64(1), progress=False)
        assert same_bits(longer.weights, whole.weights) and longer.rounds == whole.rounds


def test_first_weights(arrays: tuple[Any, ...]) -> None:
    start = simulate(arrays, rounds=1)
    settings = fedpipe.train_settings(**SMALL | {"rounds": 1})
    again = fedpipe.simulate(*arrays, settings, classes=10, first=start.weights)
    assert not same_bits(again.weights, start.weights)
    assert (again.rounds[0].loss or 9) < (start.rounds[0].loss or 0)
    with pytest.raises(
        fedpipe.PipelineError, match=re.escape("first has arrays of the shapes [[784, 10]], and 'train.m")
    ):
        fedpipe.simulate(*arrays, settings, classes=10, first=start.weights[:1])
    clustered = fedpipe.train_settings(**SMALL | {"algorithm": "ifca"})
    with pytest.raises(fedpipe.PipelineError, match=r"'train.algorithm' ifca .*: leave first out"):
        fedpipe.simulate(*arrays, clustered, classes=10, first=start.weights)


@pytest.mark.parametrize(
    ("changes", "rounds", "message"),
    [
        ({}, 0, "rounds must be the number of further rounds, 1 or more, not 0"),
        (
            {
                "aggregator": "dp_gaussian",
                "client_weighting": "uniform",
                "dp_gaussian": {"noise_multiplier": "auto"},
                "privacy": {"epsilon": 50.0},
            },
            1,
            "the noise of 'train.privacy.epsilon' is computed from 'train.rounds'",
        ),
    ],
)
def test_rounds_that_cannot_be_added(arrays: tuple[Any, ...], changes: dict, rounds: int, message: str) -> None:
    result = simulate(arrays, **{"rounds": 1} | changes)
    with pytest.raises(fedpipe.PipelineError, match=re.escape(message)):
        result.continue_(rounds)


def test_an_interrupt_leaves_what_was_trained_and_no_process(arrays: tuple[Any, ...], tmp_path: Path) -> None:
    settings = fedpipe.train_settings(**SMALL | MOVING | {"rounds": 4, "evaluate_every": 0})

    def stop(record: Any, seconds: float) -> None:
        if record.round == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = _own_workers()
    with pytest.raises(fedpipe.Interrupted) as stopped:
        fedpipe.simulate(*arrays, settings, classes=10, on_round=stop, folder=tmp_path)
    assert _own_workers() <= before
    result = stopped.value.result
    assert len(result.rounds) == 2 and result.predict(arrays[0][:1]).shape == (1, 10)
    whole = fedpipe.simulate(*arrays, settings, classes=10, progress=False)
    assert same_bits(result.continue_(2, progress=False).weights, whole.weights)


def _own_workers() -> set[int]:
    """The ids of the TFF workers that this process has started."""
    workers = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if any("worker_binary" in part for part in child.cmdline()):
                workers.add(child.pid)
    return workers


def test_in_a_running_event_loop_with_one_line_a_round(
    arrays: tuple[Any, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """As in a notebook."""

    async def cell() -> fedpipe.Simulation:
        return simulate(arrays)

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = asyncio.run(cell())
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("round 1/2: ") and second.startswith("round 2/2: ") and len(result.rounds) == 2


def test_many_models_in_a_row_bring_no_warning_of_retracing(
    arrays: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    settings = train_settings(model="logistic_regression")
    for _ in range(7):
        model = model_of(settings)
        model.predictor(first_weights(settings))(arrays[0][:1])
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


def test_a_client_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        Personal(None, [np.zeros((2, 3))], np.array([0, 1])).weights(2)  # type: ignore[arg-type]


@pytest.mark.slow
def test_clients_that_never_train_have_figures_of_their_own(arrays: tuple[Any, ...]) -> None:
    """The weights are those of a training without them; models, rows and accuracies keep the clients' indices."""
    images, labels, clients = arrays
    settings = fedpipe.train_settings(**SMALL | {"algorithm": "ditto", "evaluate_every": 1}, client_rounds=True)
    whole = fedpipe.simulate(*arrays, settings, classes=10, held_out_clients=[1], progress=False)
    others = [clients[client] for client in (0, 2, 3)]
    without = fedpipe.simulate(images, labels, others, settings, classes=10, progress=False)
    assert same_bits(whole.weights, without.weights) and without.held_out is None
    assert whole.held_out is not None and whole.held_out["client"].tolist() == [1]
    accuracy = (whole.predict(images[clients[1]]).argmax(axis=1) == labels[clients[1]]).mean()
    assert whole.held_out["accuracy"].tolist() == [whole.rounds[-1].others["held_out_accuracy"]] == [accuracy]
    assert whole.client_rounds is not None and sorted(set(whole.client_rounds["client"])) == [0, 2, 3]
    assert whole.personal is not None and without.personal is not None
    assert same_bits(whole.personal.weights(3), without.personal.weights(2))
    with pytest.raises(fedpipe.PipelineError, match="client 1 never trained"):
        whole.personal.weights(1)
    longer = whole.continue_(1, progress=False)
    assert longer.client_rounds is not None and longer.client_rounds["round"].max() == 3
    assert longer.client_rounds[longer.client_rounds["round"] < 3].equals(whole.client_rounds)
    assert longer.held_out is not None and len(longer.held_out) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out_clients": 4}, "held_out_clients leaves none of 4 clients to train"),
        ({"held_out_clients": 1.5}, "held_out_clients is 1.5: give a number from 0 on, or a share below 1"),
        ({"held_out_clients": 0.01}, "held_out_clients is 0.01, which holds out none of 4 clients"),
        ({"held_out_clients": [0, 4]}, "must be different indices from 0 to 3, not [0, 4]"),
        ({"held_out_clients": [True, False]}, "must be a number of clients, their share (0.1), or a list of indices"),
        ({"held_out_clients": 2, "clients_per_round": 3}, "'train.clients_per_round' is 3, but there are 2 clients"),
        ({"held_out_clients": 1, "cohort": "fixed", "fixed": {"ids": [0]}}, "'train.cohort' fixed both say who trains"),
        (
            {"client_weights": [1.0, 2.0]},
            "must be one number for each of the 4 clients, not float64 [2]",
        ),
        ({"client_weights": [1, 2, 3, np.nan]}, "client_weights must be finite numbers from 0 on, one of them above 0"),
        (
            {"client_weights": [1, 1, 1, 1], "aggregator": "median"},
            "'train.aggregator' median counts all",
        ),
    ],
)
def test_clients_that_cannot_be_held_out_or_weighed(
    arrays: tuple[Any, ...], arguments: dict[str, Any], message: str
) -> None:
    own = {key: arguments[key] for key in ("held_out_clients", "client_weights") if key in arguments}
    settings = fedpipe.train_settings(**SMALL | {key: arguments[key] for key in arguments if key not in own})
    with pytest.raises(fedpipe.PipelineError, match=re.escape(message)):
        fedpipe.simulate(*arrays, settings, classes=10, **own)
