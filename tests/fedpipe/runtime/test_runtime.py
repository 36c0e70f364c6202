"""Rounds on the real worker: the right numbers, the same bits, and a clear end when something breaks."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from fedpipe.runtime.algorithm import build_process
from fedpipe.runtime.runtime import Runtime

from fedpipe import config as params
from fedpipe.datasets.shards import Shards, read_shard, shards_path, write_shards
from fedpipe.errors import PipelineError
from fedpipe.models import zoo as models
from fedpipe.runtime import runtime as runtime_module
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.worker import Worker

Make = Callable[[list[int]], Path]
SPEC = models.ModelSpec("baseline_cnn", (28, 28, 1), 10)


def changed(settings: params.Train, **update: object) -> params.Train:
    return params.Train.model_validate(settings.model_dump() | update)


def initial(spec: models.ModelSpec = SPEC) -> models.Weights:
    return models.initial_weights(spec, np.random.default_rng(5))


def run(
    worker: Worker, settings: params.Train, shards: Path, cohorts: list[list[int]], spec: models.ModelSpec = SPEC
) -> tuple[models.Weights, list[dict]]:
    process = build_process(spec, settings, initial(spec), shards)
    with Runtime(process, worker, len(cohorts[0])) as runtime:
        sums = [runtime.run_round(cohort)["client_work"] for cohort in cohorts]
        return runtime.weights(), sums


def fedavg(settings: params.Train, shards: Path, cohorts: list[list[int]]) -> tuple[models.Weights, list[float]]:
    """Federated averaging as the paper writes it, in eager TensorFlow with Keras's layers: nothing of ours in it."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10)]
    )
    model.build((None, 28, 28, 1))
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights, losses = initial(), []
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
    settings = changed(settings, **update)
    shards, cohorts = make_shards([30, 45, 20, 0, 1]), [[0, 1, 2, 3, 4], [1, 3, 4]]
    weights, sums = run(worker, settings, shards, cohorts)
    expected, losses = fedavg(settings, shards, cohorts)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([s["loss"] / s["seen"] for s in sums], losses, rtol=1e-5)
    assert [s["clients"] for s in sums] == [5, 3] and [s["examples"] for s in sums] == [96, 46]


def test_chunks_do_not_change_the_mean(
    worker: Worker, settings: params.Train, make_shards: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, cohorts = make_shards([6] * 10), [list(range(10))] * 2
    whole, sums = run(worker, settings, shards, cohorts)
    monkeypatch.setattr(runtime_module, "CHUNK", 4)  # two whole chunks and one of two
    chunked, chunked_sums = run(worker, settings, shards, cohorts)
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(sums, chunked_sums, strict=True):
        assert {k: v for k, v in a.items() if k != "loss"} == {k: v for k, v in b.items() if k != "loss"}
    again, _ = run(worker, settings, shards, cohorts)
    assert all((a == b).all() for a, b in zip(chunked, again, strict=True))


def test_same_bits_again(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards, cohorts = make_shards([25] * 12), [list(range(12))] * 3
    one, _ = run(worker, settings, shards, cohorts)
    two, _ = run(worker, settings, shards, cohorts)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_it_is_a_learning_process(settings: params.Train, make_shards: Make) -> None:
    process = build_process(SPEC, settings, initial(), make_shards([5]))
    assert isinstance(process, tff.learning.templates.LearningProcess)


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "rmsprop", "yogi"])
def test_optimizers_learn(worker: Worker, settings: params.Train, make_shards: Make, name: str) -> None:
    momentum = 0.5 if name == "sgd" else 0.0
    optimizer = {"name": name, "learning_rate": 0.02 if name == "sgd" else 0.002, "momentum": momentum}
    settings = changed(
        settings,
        client_optimizer=optimizer,
        server_optimizer={"name": name, "learning_rate": 0.005, "momentum": momentum},
    )
    _, sums = run(worker, settings, make_shards([40] * 5), [list(range(5))] * 4)
    assert sums[-1]["loss"] < sums[0]["loss"]


@pytest.mark.parametrize("model", ["mcmahan_2nn", "mcmahan_cnn"])
def test_models_learn(worker: Worker, settings: params.Train, make_shards: Make, model: str) -> None:
    spec = models.ModelSpec(model, (28, 28, 1), 10)
    _, sums = run(worker, changed(settings, model=model, batch_size=10), make_shards([40] * 5), [[0, 1, 2]] * 4, spec)
    assert sums[-1]["loss"] < sums[0]["loss"] and sums[-1]["correct"] > sums[0]["correct"]


def test_non_finite_client_is_left_out(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    """One step from a huge rate is finite, the next ones are not: only the client of one batch is left."""
    optimizer = {"name": "sgd", "learning_rate": 1e30, "momentum": 0.0}
    settings = changed(
        settings, client_optimizer=optimizer, server_optimizer={"name": "sgd", "learning_rate": 1e-30, "momentum": 0.0}
    )
    shards = make_shards([20, 200])
    both, sums = run(worker, settings, shards, [[0, 1]])
    assert (sums[0]["non_finite"], sums[0]["clients"], sums[0]["examples"]) == (1, 1, 20)
    assert np.isfinite(sums[0]["loss"]) and all(np.isfinite(w).all() for w in both)
    alone, _ = run(worker, settings, shards, [[0]])
    assert all((a == b).all() for a, b in zip(both, alone, strict=True))
    _, sums = run(worker, settings, shards, [[1]])
    with pytest.raises(PipelineError, match=r"round 3: the updates of all 1 clients were not finite .*learning_rate"):
        RoundRecord.of(3, 1, sums[0], 4)


def test_a_mix_of_empty_and_non_finite_clients_blames_the_rate() -> None:
    sums = {"loss": 0.0, "correct": 0, "seen": 0, "examples": 0, "clients": 1, "non_finite": 4}
    with pytest.raises(PipelineError, match=r"the updates of all 4 clients were not finite"):
        RoundRecord.of(1, 5, sums, 4)
    with pytest.raises(PipelineError, match=r"none of its 5 clients has a sample"):
        RoundRecord.of(1, 5, sums | {"non_finite": 0, "clients": 5}, 4)


def test_a_proxy_in_the_environment_is_not_asked(
    worker: Worker, settings: params.Train, make_shards: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    run(worker, settings, make_shards([5]), [[0]])


def test_secure_sums_are_refused(worker: Worker, settings: params.Train, tmp_path: Path) -> None:
    process = tff.learning.algorithms.build_weighted_fed_avg(
        tff.learning.models.functional_model_from_keras(
            tf.keras.Sequential([tf.keras.layers.InputLayer((4,)), tf.keras.layers.Dense(2)]),
            loss_fn=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=(tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int32)),
        ),
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
        model_aggregator=tff.learning.secure_aggregator(weighted=True),
    )
    with pytest.raises(PipelineError, match=r"does not run secure sums"):
        Runtime(process, worker, 1)


def test_unreadable_shards_end_the_round(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards = make_shards([20, 20])
    path = shards_path(shards)
    content = path.read_bytes()
    process = build_process(SPEC, settings, initial(), shards)
    with Runtime(process, worker, 2) as runtime:
        for damage in (path.unlink, lambda: path.write_bytes(content[:-1])):
            damage()
            with pytest.raises(PipelineError, match=r"a client failed on the TFF worker: "):
                runtime.run_round([0, 1])
        path.write_bytes(content)
        runtime.run_round([0, 1])  # the worker lives on


def test_a_client_reads_its_own_shard_only(worker: Worker, settings: params.Train, make_shards: Make) -> None:
    shards = make_shards([20, 20, 20])
    before, _ = run(worker, settings, shards, [[1]])
    content = np.fromfile(shards_path(shards), np.uint8)
    opened = Shards.open(shards)
    mine = [range(opened.images_start + 20 * 784, opened.images_start + 40 * 784)]
    mine += [range(opened.labels_start + 20, opened.labels_start + 40)]
    mine += [range(opened.images_start)]  # what says where shards lie
    others = np.setdiff1d(np.arange(len(content)), np.concatenate(mine))
    content[others] ^= 255
    content.tofile(shards_path(shards))
    after, _ = run(worker, settings, shards, [[1]])
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


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
        process = build_process(SPEC, settings, initial(), make_shards([20]))
        with Runtime(process, mortal, 1) as runtime:
            runtime.run_round([0])
            os.kill(mortal.pid, signal.SIGKILL)
            with pytest.raises(PipelineError, match=r"the TFF worker was killed \(signal 9.*worker.log"):
                runtime.run_round([0])
