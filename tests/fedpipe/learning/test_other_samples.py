"""Rounds of samples that are no images, and of labels that are numbers, on a real worker against NumPy."""

from pathlib import Path

import numpy as np

from fedpipe.datasets.shards import Manifest, read_shard, verify_shards, write_shards
from fedpipe.datasets.sources.arrays import numbers_of
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.runtime.worker import Worker
from fedpipe.samples.kind import Format
from tests.fedpipe.training import run, train_settings

RNG = np.random.default_rng(11)
MEMBERS = np.split(np.arange(20), [4, 10])
RATE = 0.1


def test_a_round_of_least_squares_is_a_step_of_gradient_descent(worker: Worker, tmp_path: Path) -> None:
    samples = RNG.normal(size=(20, 3)).astype(np.float32)
    labels = (samples @ RNG.normal(size=(3, 2)) + RNG.normal(size=(20, 2))).astype(np.float32)
    described = Format(samples="float32", numbers=numbers_of(labels))
    write_shards(tmp_path, "numbers", samples, labels, MEMBERS, 0, sample_format=described)
    verify_shards(tmp_path, Manifest.read(tmp_path))
    for client, mine in enumerate(MEMBERS):
        np.testing.assert_array_equal(read_shard(tmp_path, client)[0], samples[mine])
        np.testing.assert_array_equal(read_shard(tmp_path, client)[1], labels[mine])
    settings = train_settings(
        model="linear_regression",
        loss="squared_error",
        batch_size=100,
        metrics=["mean_absolute_error"],
        client_optimizer={"learning_rate": RATE},
    )
    model = network(ModelSpec.of(settings, (3,), 0, described))
    first = model.first_weights(np.random.default_rng(2))
    ended = run(worker, settings, tmp_path, [range(3)], first=first, model=model)
    errors = samples @ first[0] + first[1] - labels
    slope = 2 * errors / errors.size
    np.testing.assert_allclose(ended.weights[0], first[0] - RATE * samples.T @ slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ended.weights[1], first[1] - RATE * slope.sum(axis=0), rtol=1e-5, atol=1e-6)
    sums = ended.rounds[0]
    assert int(sums["seen"]) == 20
    np.testing.assert_allclose(float(sums["loss"]), np.square(errors).mean(axis=1).sum(), rtol=1e-5)
    np.testing.assert_allclose(float(sums["mean_absolute_error"]), np.abs(errors).mean(axis=1).sum(), rtol=1e-5)
    unexplained = np.square(errors) / np.asarray(described.numbers.variances)
    np.testing.assert_allclose(float(sums["accuracy"]), (1 - unexplained.mean(axis=1)).sum(), rtol=1e-5)


def test_tokens_train_their_embeddings_and_padding_stays(worker: Worker, tmp_path: Path) -> None:
    samples = RNG.integers(0, 30, (20, 6)).astype(np.int32)
    samples[:, -1] = 0
    samples[samples == 7] = 8
    labels = RNG.integers(0, 3, 20).astype(np.uint8)
    described = Format(samples="int32", tokens=30)
    write_shards(tmp_path, "tokens", samples, labels, MEMBERS, 3, sample_format=described)
    settings = train_settings(model="bag_of_tokens", batch_size=5, shuffle=True)
    model = network(ModelSpec.of(settings, (6,), 3, described))
    first = model.first_weights(np.random.default_rng(2))
    ended = run(worker, settings, tmp_path, [range(3)], first=first, model=model)
    moved = np.abs(ended.weights[0] - first[0]).max(axis=1) > 0
    seen = np.isin(np.arange(30), samples) & (np.arange(30) > 0)
    np.testing.assert_array_equal(moved, seen)
