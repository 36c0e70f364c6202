"""The baselines without a federation: one learner with all samples, and each client by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import fedpipe
from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Shards
from fedpipe.learning.all_samples import drawn, samples_before
from fedpipe.learning.interface import Client
from fedpipe.learning.task import Task
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Samples
from tests.fedpipe.training import (
    FEDERATED,
    first_weights,
    model_of,
    run,
    same_bits,
    train,
    train_settings,
)

Make = Callable[[list[int]], Path]
BASELINES = ("centralised", "local_only")
ALL = sum(SIZES)


def test_all_others_are_federated() -> None:
    assert {*BASELINES, *FEDERATED} == set(ALGORITHMS.names)


@pytest.mark.slow
def test_a_client_by_itself_takes_its_own_steps_and_no_others(worker: Worker, make_shards: Make) -> None:
    settings, shards = train_settings(**TRAINING, algorithm="local_only"), make_shards(SIZES)
    ended, first = run(worker, settings, shards, COHORTS), first_weights(settings)
    assert same_bits(ended.weights, first) and ended.bytes == (0, 0)
    for client, size in enumerate(SIZES):
        weights = first
        for _ in [cohort for cohort in COHORTS if client in cohort and size]:
            weights = reference.moved(
                weights, reference.sgd(weights, reference.samples_of(shards, client), settings)[0]
            )
        (kept,) = [each for name, each in ended.kept.items() if name.split(".")[0] == str(client)][-1:]
        assert kept[0] == (size > 0)
        np.testing.assert_allclose(
            kept[1:], np.concatenate([w.ravel() for w in weights]) * (size > 0), rtol=0, atol=reference.TOLERANCE
        )


def places_of(settings: Train, before: tuple[int, ...], number: int) -> np.ndarray:
    task = Task(model_of(settings), settings, len(SIZES), samples_before=before)
    client = Client(
        tf.zeros([ALL, 28, 28, 1], tf.uint8), tf.zeros([ALL], tf.uint8), tf.constant(0), tf.constant(number)
    )
    places: np.ndarray = drawn(task, client).numpy()
    return places


def test_rounds_draw_one_sequence_that_goes_through_all_samples_again_and_again() -> None:
    settings = train_settings(**TRAINING, rounds=3)
    before = (0, 40, ALL + 30, 3 * ALL)
    drawn_places = [places_of(settings, before, number) for number in (1, 2, 3)]
    assert [len(places) for places in drawn_places] == np.diff(before).tolist()
    passes = np.concatenate(drawn_places).reshape(3, ALL)
    assert all(sorted(places) == list(range(ALL)) for places in passes.tolist())
    assert len({places.tobytes() for places in passes}) == 3
    assert places_of(settings, (0, 0), 1).size == 0
    assert (places_of(settings, before, 2) == drawn_places[1]).all()
    other = settings.model_copy(update={"seed": 1})
    assert (places_of(other, before, 1) != drawn_places[0]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"last_batch": "drop", "clients_per_round": 3},
        {},
        {"local_steps": 7, "local_epochs": 1},
    ],
)
def test_one_learner_takes_plain_steps_over_as_many_samples_as_clients_would_see(
    worker: Worker, make_shards: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """NumPy's SGD over the batches of the sequence gives the weights."""
    settings = train_settings(**TRAINING | {"evaluate_every": 0, "rounds": 3, "algorithm": "centralised"} | changes)
    shards = make_shards(SIZES)
    offsets = Shards.open(shards).offsets
    before = samples_before(settings, np.diff(offsets))
    federated = settings.model_copy(update={"algorithm": "fed_avg"})
    assert np.diff(before).tolist() == _seen(worker, federated, shards)
    ended = train(settings, shards, worker, tmp_path / "centralised")
    everything = [reference.samples_of(shards, client) for client in range(len(SIZES))]
    samples = Samples(*(np.concatenate(parts) for parts in zip(*everything, strict=True)))
    weights = first_weights(settings)
    plain = settings.model_copy(update={"local_epochs": 1, "local_steps": None, "last_batch": "keep"})
    for number in (1, 2, 3):
        places = places_of(settings, before, number)
        ours = Samples(samples.x[places], samples.y[places])
        weights = reference.moved(weights, reference.sgd(weights, ours, plain)[0])
    reference.assert_close(ended.weights, weights)
    assert [(record.clients, record.bytes_down, record.bytes_up) for record in ended.records] == [(1, 0, 0)] * 3


def _seen(worker: Worker, settings: Train, shards: Path) -> list[int]:
    """How many samples the clients of each round see in their steps."""
    from fedpipe.runtime.cohort import cohort

    cohorts = [cohort(settings, np.array(SIZES), number).clients.tolist() for number in (1, 2, 3)]
    return [int(measured["seen"]) for measured in run(worker, settings, shards, cohorts).rounds]


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_a_longer_training_has_the_bits_of_one_that_was_resumed(
    worker: Worker, make_shards: Make, tmp_path: Path, name: str
) -> None:
    """What a checkpoint has is enough: the state after two rounds, in another training."""
    shards, changes = make_shards(SIZES), TRAINING | {"algorithm": name, "evaluate_every": 0, "clients_per_round": 3}
    whole = train(train_settings(**changes, rounds=4), shards, worker, tmp_path / "whole")
    images, labels = (np.concatenate(parts) for parts in zip(*_shards(shards), strict=True))
    clients = np.split(np.arange(ALL), np.cumsum(SIZES)[:-1])
    first = first_weights(train_settings(**changes))
    half = fedpipe.simulate(
        images, labels, clients, train_settings(**changes, rounds=2), first=first, classes=10, progress=False
    )
    resumed = half.continue_(2, progress=False)
    assert same_bits(resumed.weights, whole.weights)
    if resumed.personal is not None:
        assert same_bits(resumed.personal.models, _models(whole, tmp_path / "personal.safetensors"))
    assert [each.row() for each in resumed.rounds] == [each.row() for each in whole.records]


def _shards(shards: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    from fedpipe.datasets.shards import read_shard

    return [read_shard(shards, client) for client in range(len(SIZES))]


def _models(trained: Trained, path: Path) -> list[np.ndarray]:
    assert trained.personal is not None
    trained.personal.write(path)
    stacked = load_file(path)
    return [stacked[name] for name in trained.network.shapes]


@pytest.mark.slow
def test_without_a_global_model_rounds_have_the_means_over_the_clients_models(make_shards: Make) -> None:
    images, labels = (np.concatenate(parts) for parts in zip(*_shards(make_shards(SIZES)), strict=True))
    clients, test = np.split(np.arange(ALL), np.cumsum(SIZES)[:-1]), (images[:50], labels[:50])
    settings = train_settings(**TRAINING, algorithm="local_only", rounds=2, clients_per_round=3, evaluate_every=2)
    result = fedpipe.simulate(images, labels, clients, settings, test=test, classes=10, progress=False)
    assert result.personal is not None
    hits = [(result.personal.predict(client, test[0]).argmax(axis=1) == test[1]).mean() for client in range(len(SIZES))]
    assert result.rounds[0].test_accuracy is None
    assert result.rounds[1].test_accuracy == pytest.approx(np.mean(hits), abs=1e-12) and len(set(hits)) > 1


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregator": "median"}, "no client sends anything, and 'train.aggregator' median .*: set .* to mean"),
        ({"aggregator": "dp_gaussian", "client_weighting": "uniform"}, "'train.aggregator' dp_gaussian"),
        ({"aggregator": "secure_sum", "client_weighting": "uniform"}, "'train.aggregator' secure_sum"),
        ({"compressor": "top_k"}, "'train.compressor' top_k shortens .*: set 'train.compressor' to no_compression"),
        ({"attack": "sign_flip", "attackers": 0.2}, "'train.attack' sign_flip .*: set 'train.attack' to no_attack"),
        ({"server_optimizer": {"learning_rate": 0.5}}, "without a server's step: set 'train.server_optimizer' to sgd"),
        ({"server_optimizer": {"name": "fed_yogi"}}, "without a server's step"),
        (
            {"cohort": "power_of_choice", "clients_per_round": 5},
            "'train.cohort' power_of_choice chooses them by its loss",
        ),
        ({"availability": {"dropout_before": 0.1}}, "waits for no device: set 'train.availability' back"),
        ({"availability": {"stragglers": {"share": 0.1}}}, "waits for no device"),
        ({"dropouts": [{"round": 1, "site": 1}]}, r"loses no site: set 'train.dropouts' to \[\]"),
    ],
)
def test_what_makes_no_sense_without_a_federation_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"'train.algorithm' {name} is a baseline.*{message}"):
        train_settings(algorithm=name, **changes)


def test_clients_without_any_model_are_refused() -> None:
    images, labels = np.zeros((6, 28, 28, 1), np.uint8), np.arange(6, dtype=np.uint8)
    settings = train_settings(algorithm="local_only")
    with pytest.raises(fedpipe.PipelineError, match="held_out_clients are clients without a model of their own"):
        fedpipe.simulate(images, labels, np.split(np.arange(6), 3), settings, held_out_clients=1)


def test_rows_of_clients_are_not_those_of_one_learner() -> None:
    with pytest.raises(ValueError, match=r"one learner in place of clients, .*: set 'train.client_rounds' to false"):
        train_settings(algorithm="centralised", client_rounds=True)
    train_settings(algorithm="local_only", client_rounds=True)


def test_the_best_global_model_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="local_only trains no global model, and 'train"):
        train_settings(algorithm="local_only", keep_best=True)
    train_settings(algorithm="centralised", keep_best=True)
