"""Personal models after whole trainings: they are those that the clients kept, and their clusters' models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.personal import accuracy_of_own
from fedpipe.networks.personal_weights import PersonalModels, save_none
from fedpipe.runtime.personal import model_count
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import SIZES, TRAINING
from tests.fedpipe.training import kept_in_file, model_of, train, train_settings

Make = Callable[[list[int]], Path]


def trained(worker: Worker, shards: Path, folder: Path, **changes: Any) -> Trained:
    settings = train_settings(**TRAINING | {"evaluate_every": 0, "rounds": 3, "clients_per_round": 2} | changes)
    return train(settings, shards, worker, folder)


@pytest.mark.parametrize("compressor", ["no_compression", "top_k"])
def test_ditto_end_to_end(worker: Worker, make_shards: Make, tmp_path: Path, compressor: str) -> None:
    """Clients that trained have what their files say (with top_k, more is in them); the others the global model."""
    shards, path = make_shards(SIZES), tmp_path / "personal.safetensors"
    ended = trained(worker, shards, tmp_path, algorithm="ditto", compressor=compressor)
    assert ended.personal is not None
    ended.personal.write(path)
    first = path.read_bytes()
    ended.personal.write(path)
    assert path.read_bytes() == first
    stacked = load_file(path)
    np.testing.assert_array_equal(stacked.pop("client_model"), np.arange(len(SIZES), dtype=np.int32))
    last = {int(file.name.split(".")[0]): file for file in (tmp_path / "clients").iterdir()}
    assert 2 <= len(last) < len(SIZES)
    for client in range(len(SIZES)):
        flat = np.concatenate([stacked[name][client].ravel() for name in ended.network.shapes])
        kept = kept_in_file(last[client]) if client in last else np.zeros(1)
        if kept[0]:  # it has taken a step
            np.testing.assert_array_equal(flat, kept[1 : 1 + len(flat)])
        else:
            np.testing.assert_array_equal(flat, np.concatenate([w.ravel() for w in ended.weights]))
    model = ended.network
    models = PersonalModels.open(path, model, len(SIZES))
    assert models is not None and not models.clusters
    accuracies = accuracy_of_own(model, models.of, shards, 8)
    for client, size in enumerate(SIZES):
        samples, (kernel, bias) = reference.samples_of(shards, client), models.of(client)
        expected = ((samples.x @ kernel + bias).argmax(axis=1) == samples.y).mean() if size else np.nan
        np.testing.assert_equal(accuracies[client], expected)
    assert 0 < spread(accuracies)["jain"] <= 1


def test_clusters_share_their_models(worker: Worker, make_shards: Make, tmp_path: Path) -> None:
    shards, path = make_shards(SIZES), tmp_path / "personal.safetensors"
    ended = trained(worker, shards, tmp_path, algorithm="ifca", ifca={"clusters": 3}, client_weighting="examples")
    assert ended.personal is not None
    ended.personal.write(path)
    model = ended.network
    personal, stacked = PersonalModels.open(path, model, len(SIZES)), load_file(path)
    assert personal is not None and personal.clusters
    np.testing.assert_array_equal(personal.client_model, ended.personal.clusters)
    for record in ended.records:
        columns = record.row()
        sizes = [columns[f"cluster_{number}_clients"] for number in range(3)]
        assert 0 < sum(sizes) <= record.clients
        assert all(isinstance(size, int) for size in sizes)
    models = [[stacked[name][number] for name in model.shapes] for number in range(3)]
    for client, size in enumerate(SIZES):
        if size:
            samples = reference.samples_of(shards, client)
            losses = [reference.losses_and_gradient(weights, samples)[0].mean() for weights in models]
            assert personal.client_model[client] == np.argmin(losses)
    assert any(all(map(np.array_equal, weights, ended.weights)) for weights in models)


def test_others_have_none(worker: Worker, make_shards: Make, tmp_path: Path) -> None:
    ended = trained(worker, make_shards(SIZES), tmp_path, rounds=1)
    assert ended.personal is None
    path, model = tmp_path / "personal.safetensors", model_of(train_settings(**TRAINING))
    save_none(path, model)
    assert PersonalModels.open(path, model, len(SIZES)) is None


def test_counts_for_the_reservation() -> None:
    counts = {name: model_count(train_settings(algorithm=name), 7) for name in ("fed_avg", "ditto", "fed_rep", "ifca")}
    assert counts == {"fed_avg": 0, "ditto": 7, "fed_rep": 7, "ifca": 2}
