"""Rounds on the real worker: the right numbers, the same bits, and a clear end when something breaks."""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedpipe import params
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Shards, read_shard, shards_path, write_shards
from fedpipe.errors import DivergedError, PipelineError
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.measurements import Counted, MeanPerExample
from fedpipe.learning.process import Process, build_process
from fedpipe.learning.task import Task
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import Weights
from fedpipe.runtime import engine as engine_module
from fedpipe.runtime.engine import Engine, cut, group_sizes
from fedpipe.runtime.records import require_contribution
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import cohort_of, first_weights, model_of, run, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]


def process_over(settings: params.Train, shards: Path, clients: int) -> Process:
    algorithm, aggregator = ALGORITHMS.of(settings.algorithm), AGGREGATORS.of(settings.aggregator)
    task = Task(model_of(settings), settings, clients)
    return build_process(task, algorithm, aggregator, first_weights(settings), ClientReader(shards))


def fedavg(settings: params.Train, shards: Path, cohorts: list[list[int]]) -> tuple[Weights, list[float]]:
    """Federated averaging as the paper writes it, in eager TensorFlow with Keras's layers: nothing of ours in it."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10)]
    )
    model.build((None, 28, 28, 1))
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights, losses = first_weights(settings), []
    for cohort in cohorts:
        totals, mass, loss_sum, seen = [np.zeros_like(w, np.float64) for w in weights], 0.0, 0.0, 0
        for client in cohort:
            images, labels = read_shard(shards, client)
            model.set_weights(weights)
            for _ in range(settings.local_epochs):
                for start in range(0, len(labels), settings.batch_size):
                    x = images[start : start + settings.batch_size].astype(np.float32) / 255
                    y = labels[start : start + settings.batch_size]
                    with tf.GradientTape() as tape:
                        loss = loss_of(y, model(x))
                    for variable, gradient in zip(
                        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
                    ):
                        variable.assign_sub(settings.client_optimizer.learning_rate * gradient)
                    loss_sum, seen = loss_sum + float(loss) * len(y), seen + len(y)
            weight = len(labels) if settings.client_weighting == "examples" else float(len(labels) > 0)
            mass += weight
            for total, before, after in zip(totals, weights, model.get_weights(), strict=True):
                total += weight * (before.astype(np.float64) - after)
        rate = settings.server_optimizer.learning_rate
        weights = [(w - rate * t / mass).astype(np.float32) for w, t in zip(weights, totals, strict=True)]
        losses.append(loss_sum / seen)
    return weights, losses


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"client_weighting": "uniform", "local_epochs": 2, "batch_size": 7},
        {"server_optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.0}},
    ],
)
def test_is_federated_averaging(worker: Worker, settings: params.Train, make_shards: Make, update: dict) -> None:
    settings = train_settings(**update)
    shards, cohorts = make_shards([30, 45, 20, 0, 1]), [[0, 1, 2, 3, 4], [1, 3, 4]]
    weights, sums, *_ = run(worker, settings, shards, cohorts)
    expected, losses = fedavg(settings, shards, cohorts)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([s["loss"] / s["seen"] for s in sums], losses, rtol=1e-5)
    assert [s["clients"] for s in sums] == [4, 2] and [s["examples"] for s in sums] == [96, 46]


def test_chunks_do_not_change_the_mean(
    worker: Worker, settings: params.Train, make_shards: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, cohorts = make_shards([6] * 10), [list(range(10))] * 2
    whole, sums, *_ = run(worker, settings, shards, cohorts)
    monkeypatch.setattr(engine_module, "CHUNK", 4)  # two whole chunks and one of two
    (chunked, chunked_sums, *_), (again, *_) = runs(worker, settings, shards, [cohorts, cohorts])
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(sums, chunked_sums, strict=True):
        assert {k: v for k, v in a.items() if k != "loss"} == {k: v for k, v in b.items() if k != "loss"}
    assert same_bits(chunked, again)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.data())
def test_groups_and_chunks_end_at_the_borders_of_sites(clients: list[int], data: st.DataObject) -> None:
    """Each site's clients are cut as a cohort of their own would be."""
    site_of = np.repeat(np.arange(len(clients)), clients)
    drawn = data.draw(st.sets(st.integers(0, len(site_of) - 1), min_size=1))
    requests = WorkRequest.of(sorted(drawn)).pack()
    chunks = list(cut(requests, site_of))
    assert np.concatenate([group for chunk in chunks for group in chunk]).tolist() == requests.tolist()
    assert all(len(chunk) <= engine_module.CHUNK for chunk in chunks)
    for site in set(site_of[requests[:, 0]]):
        own = [chunk for chunk in chunks if site_of[chunk[0][0, 0]] == site]
        assert {site_of[client] for chunk in own for group in chunk for client in group[:, 0]} == {site}
        count = int((site_of[requests[:, 0]] == site).sum())
        assert [len(group) for chunk in own for group in chunk] == group_sizes(count)


@pytest.mark.parametrize("clients", [201, 240, 1000, 5000])
def test_no_chunk_of_a_large_site_has_few_clients(clients: int) -> None:
    """A site's policy looks at each sum that leaves it; without sites the chunks stay full, for the sake of bits."""
    requests = WorkRequest.of(np.arange(clients)).pack()
    chunks = [sum(map(len, chunk)) for chunk in cut(requests, np.zeros(clients, np.int64))]
    whole = [sum(map(len, chunk)) for chunk in cut(requests, None)]
    assert len(chunks) == len(whole) == math.ceil(len(group_sizes(clients)) / engine_module.CHUNK)
    assert min(chunks) > 0.5 * clients / len(chunks) and min(chunks) > 2 * min(whole)


def test_a_simulation_of_sites_adds_site_by_site(
    worker: Worker, training_set: tuple[np.ndarray, np.ndarray], make_shards: Make, tmp_path: Path
) -> None:
    settings, sizes = train_settings(model="logistic_regression"), [9, 14, 6, 11, 8, 7, 12]
    members = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    write_shards(tmp_path, "mnist", *training_set, members, 10, sites=[3, 4])
    one_owner, cohorts = make_shards(sizes), [range(7), range(7)]
    at_sites, together = (run(worker, settings, folder, cohorts).weights for folder in (tmp_path, one_owner))
    assert not same_bits(at_sites, together)
    for a, b in zip(at_sites, together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_same_bits_again(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards, cohorts = make_shards([25] * 12), [list(range(12))] * 3
    first, two = runs(worker, settings, shards, [cohorts, cohorts])
    assert same_bits(first.weights, two.weights)


@pytest.mark.parametrize(
    "name", ["sgd", "adam", "yogi", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adagrad", "rmsprop"))]
)
def test_optimizers_learn(worker: Worker, settings: params.Train, make_shards: Make, name: str) -> None:
    momentum = 0.5 if name == "sgd" else 0.0
    optimizer = {"name": name, "learning_rate": 0.02 if name == "sgd" else 0.002, "momentum": momentum}
    settings = train_settings(
        client_optimizer=optimizer,
        server_optimizer={"name": name, "learning_rate": 0.005, "momentum": momentum},
    )
    _, sums, *_ = run(worker, settings, make_shards([40] * 5), [list(range(5))] * 4)
    assert sums[-1]["loss"] < sums[0]["loss"]


@pytest.mark.parametrize("model", ["logistic_regression", "mcmahan_2nn", "mcmahan_cnn", "niid_cnn"])
def test_models_learn(worker: Worker, settings: params.Train, make_shards: Make, model: str) -> None:
    _, sums, *_ = run(worker, train_settings(model=model, batch_size=10), make_shards([40] * 5), [[0, 1, 2]] * 4)
    assert sums[-1]["loss"] < sums[0]["loss"] and sums[-1]["accuracy"] > sums[0]["accuracy"]


def test_non_finite_client_is_left_out(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    """One step from a huge rate is finite, the next ones are not: only the client of one batch is left."""
    optimizer = {"name": "sgd", "learning_rate": 1e30, "momentum": 0.0}
    settings = train_settings(
        client_optimizer=optimizer, server_optimizer={"name": "sgd", "learning_rate": 1e-30, "momentum": 0.0}
    )
    shards = make_shards([20, 200])
    (both, sums, *_), (alone, *_), ended = runs(worker, settings, shards, [[[0, 1]], [[0]], [[1]]])
    assert (sums[0]["non_finite"], sums[0]["clients"], sums[0]["examples"]) == (1, 1, 20)
    assert np.isfinite(sums[0]["loss"]) and all(np.isfinite(w).all() for w in both)
    assert same_bits(both, alone)
    with pytest.raises(DivergedError, match=r"round 3: the updates of all 1 clients were not finite .*learning_rate"):
        require_contribution(3, cohort_of([1]), ended.measured[0])


def test_a_round_without_clients_leaves_the_server_as_it_is(worker: Worker, make_shards: Make) -> None:
    settings = train_settings(algorithm="scaffold", aggregator="krum", scaffold={}, server_optimizer={"momentum": 0.5})
    process = process_over(settings, make_shards([5]), 1)
    with Engine(process, worker, 1) as engine:
        before = process.server.pack(engine.state())
        measured = engine.run_round(WorkRequest.of([]).pack())
        after = process.server.pack(engine.state())
    assert (int(before.round), int(after.round)) == (1, 2)
    assert same_bits(tf.nest.flatten(before._replace(round=after.round)), tf.nest.flatten(after))
    assert measured["loss"] == MeanPerExample(0) and measured["left_out"] == Counted(0)


def test_a_proxy_in_the_environment_is_not_asked(
    worker: Worker, settings: params.Train, make_shards: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    run(worker, settings, make_shards([5]), [[0]])


def test_unreadable_shards_end_the_round(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards = make_shards([20, 20])
    path = shards_path(shards)
    content = path.read_bytes()
    process = process_over(settings, shards, 2)
    with Engine(process, worker, 2) as engine:
        for damage in (path.unlink, lambda: path.write_bytes(content[:-1])):
            damage()
            with pytest.raises(PipelineError, match=r"a client failed on the TFF worker: "):
                engine.run_round(WorkRequest.of([0, 1]).pack())
        path.write_bytes(content)
        engine.run_round(WorkRequest.of([0, 1]).pack())  # the worker lives on


def test_a_client_reads_its_own_shard_only(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards = make_shards([20, 20, 20])
    before, *_ = run(worker, settings, shards, [[1]])
    content = np.fromfile(shards_path(shards), np.uint8)
    opened = Shards.open(shards)
    mine = [range(opened.images_start + 20 * 784, opened.images_start + 40 * 784)]
    mine += [range(opened.labels_start + 20, opened.labels_start + 40)]
    mine += [range(opened.images_start)]  # what says where shards lie
    others = np.setdiff1d(np.arange(len(content)), np.concatenate(mine))
    content[others] ^= 255
    content.tofile(shards_path(shards))
    after, *_ = run(worker, settings, shards, [[1]])
    assert same_bits(before, after)


def test_the_file_of_shards_stays_out_of_the_workers_memory(
    worker: Worker, settings: params.Train, make_shards: Make, tmp_path: Path
) -> None:
    """It is mapped; a TensorFlow that folds it into the graph as a constant would copy all of it."""
    run(worker, settings, make_shards([20]), [[0]])
    before = anonymous_mib(worker.pid)
    samples = 250_000  # 187 MiB
    images, labels = np.zeros((samples, 28, 28, 1), np.uint8), np.zeros(samples, np.uint8)
    write_shards(tmp_path, "mnist", images, labels, [np.arange(20), np.arange(20, samples)], 10)
    run(worker, settings, tmp_path, [[0], [0]])
    assert anonymous_mib(worker.pid) - before < 60


def anonymous_mib(pid: int) -> int:
    """Memory of a process that no file stands behind."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) // 1024


def test_worker_that_dies_ends_the_round(settings: params.Train, make_shards: Make, tmp_path: Path) -> None:
    with Worker(tmp_path / "worker.log") as mortal:
        mortal.wait_until_ready()
        process = process_over(settings, make_shards([20]), 1)
        with Engine(process, mortal, 1) as engine:
            engine.run_round(WorkRequest.of([0]).pack())
            os.kill(mortal.pid, signal.SIGKILL)
            with pytest.raises(PipelineError, match=r"the TFF worker was ended by SIGKILL .*worker.log"):
                engine.run_round(WorkRequest.of([0]).pack())
