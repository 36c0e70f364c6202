"""Local steps of each client against SGD in plain NumPy, and the stage with personal models."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import layout
from fedpipe.config.judge import Personalise
from fedpipe.datasets.shards import Manifest, read_shard, write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.personal import accuracy_of_own, fine_tuned
from fedpipe.networks.personal_weights import save_personal
from fedpipe.networks.weights import save_weights
from stages import evaluate as stage
from tests import RECIPE
from tests.fedpipe.algorithms import reference
from tests.fedpipe.training import first_weights, model_of, train_settings
from tests.small_pipeline import write_no_held_out_clients

Make = Callable[[list[int]], Path]
SIZES = [30, 25, 0, 13]


def test_local_steps_are_sgd(make_shards: Make) -> None:
    settings = train_settings(**reference.TRAINING)  # 2 epochs at rate 0.1 in batches of 10
    shards, weights, model = make_shards(SIZES), first_weights(settings), model_of(settings)
    weights_of = fine_tuned(model, weights, shards, Personalise(epochs=2, learning_rate=0.1, batch_size=10))
    right = []
    for client, size in enumerate(SIZES):
        samples = reference.samples_of(shards, client)
        expected = reference.moved(weights, reference.sgd(weights, samples, settings)[0]) if size else weights
        reference.assert_close(weights_of(client), expected)
        logits = samples.x @ expected[0] + expected[1]
        right.append((logits.argmax(axis=1) == samples.y).mean() if size else np.nan)
    np.testing.assert_array_equal(accuracy_of_own(model, weights_of, shards, 7), right)


@pytest.fixture
def project(make_shards: Make, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose four clients have no test samples, with the weights of a training without personal models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPIPE_TRACKING", "off")
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    shutil.copytree(make_shards(SIZES), layout.CLIENTS)
    layout.RAW.symlink_to(raw)
    settings = train_settings(**reference.TRAINING)
    save_weights(layout.WEIGHTS, model_of(settings), first_weights(settings))
    layout.TRAINING.parent.mkdir()
    write_tests(layout.CLIENT_TESTS, [])
    write_no_held_out_clients(tmp_path)
    trained()
    return tmp_path


def write_tests(folder: Path, members: list[np.ndarray]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    images, labels = read_shard(layout.CLIENTS, 0)
    write_shards(folder, "mnist", images, labels, members, 10, clients_digest=Manifest.read(layout.CLIENTS).digest)


def trained(**more: str) -> None:
    named = {"weights_sha256": hashlib.sha256(layout.WEIGHTS.read_bytes()).hexdigest()} | more
    layout.TRAINING.write_text(json.dumps(named))


def set_params(folder: Path, *changes: tuple[str, str]) -> None:
    text = (folder / "params.yaml").read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)


EPOCHS = ("    epochs: 0 # 0: off", "    epochs: 30 # 0: off")
TESTS = ("client_test: none", "client_test: fraction")


def test_without_personal_models_nothing_is_added(project: Path) -> None:
    stage.main()
    assert list(pd.read_csv(layout.CLIENT_TABLE)) == ["client", "train_samples", "train_accuracy"]
    measured = json.loads(layout.EVALUATION.read_text())
    assert not any("personalisation" in measured[samples] for samples in ("test", "train"))


def test_accuracy_on_training_samples_is_never_called_test(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without test samples of the clients' own, only the figures on the test images have the name."""
    models = [first_weights(train_settings(**reference.TRAINING))]
    model = model_of(train_settings(**reference.TRAINING))
    save_personal(layout.PERSONAL, model, np.array([0, 0, 0, 0]), models, 1, clusters=True)
    trained(personal_sha256=hashlib.sha256(layout.PERSONAL.read_bytes()).hexdigest())
    stage.main()
    table, measured = pd.read_csv(layout.CLIENT_TABLE), json.loads(layout.EVALUATION.read_text())
    assert list(table)[1:] == ["train_samples", "train_accuracy", "train_personal_accuracy", "cluster"]
    assert set(measured["test"]) == {"loss", "accuracy"}
    assert measured["train"]["clients"]["mean"] == pytest.approx(table["train_accuracy"].mean())
    assert list(measured["train"]["personalisation"]) == ["global", "personal"]
    assert "measured on the samples that they were trained on, because no client has test" in capsys.readouterr().err


def test_stage_reports_every_kind_of_model(project: Path) -> None:
    write_tests(layout.CLIENT_TESTS, [np.arange(6), np.arange(6, 10), np.arange(0), np.arange(10, 15)])
    set_params(project, EPOCHS, TESTS)
    settings = train_settings(**reference.TRAINING)
    model = model_of(settings)
    models = [model.first_weights(np.random.default_rng(seed)) for seed in (1, 2)]
    save_personal(layout.PERSONAL, model, np.array([1, 0, 0, 1]), models, 2, clusters=True)
    trained(personal_sha256=hashlib.sha256(layout.PERSONAL.read_bytes()).hexdigest())
    stage.main()
    table = pd.read_csv(layout.CLIENT_TABLE)
    assert list(table)[3:] == [
        *("test_samples", "test_accuracy", "test_personalised_accuracy", "test_personal_accuracy", "cluster")
    ]
    assert list(table["cluster"]) == [1, 0, 0, 1]
    for client, number in enumerate([1, 0, 0, 1]):
        samples = reference.samples_of(layout.CLIENT_TESTS, client)
        predicted = (samples.x @ models[number][0] + models[number][1]).argmax(axis=1)
        expected = (predicted == samples.y).mean() if len(samples.y) else np.nan
        np.testing.assert_equal(table["test_personal_accuracy"][client], expected)
    kinds = json.loads(layout.EVALUATION.read_text())["test"]["personalisation"]
    assert list(kinds) == ["global", "personalised", "personal"]
    assert kinds["global"]["mean"] == table["test_accuracy"].mean()
    assert kinds["personal"]["by_cluster"]["1"]["mean"] == table["test_personal_accuracy"][[0, 3]].mean()
    assert table["test_personalised_accuracy"][0] > 0.6 > table["test_accuracy"][0]  # it trained on these very samples


def test_personal_models_of_another_training(project: Path) -> None:
    trained(personal_sha256="ab" * 32)
    with pytest.raises(PipelineError, match=r"models/personal\.safetensors is missing: run `dvc repro`"):
        stage.main()
    layout.PERSONAL.write_bytes(b"others")
    with pytest.raises(PipelineError, match="does not hold the personal models"):
        stage.main()


def test_local_steps_need_test_samples(project: Path) -> None:
    set_params(project, EPOCHS)
    with pytest.raises(PipelineError, match=r"'evaluate\.personalise\.epochs' is 30, which needs test samples"):
        stage.main()
    set_params(project, TESTS)
    with pytest.raises(PipelineError, match="is 30, but data/client_tests holds no samples: set it to 0"):
        stage.main()
