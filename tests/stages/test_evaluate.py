"""The stage refuses what does not belong together, before it predicts anything."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe.datasets.shards import Manifest, write_shards
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from stages import evaluate as stage
from tests import RECIPE
from tests.small_pipeline import write_no_held_out_clients


@pytest.fixture
def project(
    make_shards: Callable[[list[int]], Path], raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project whose clients have 3 and 4 samples, with weights of a model, but without tests of the clients."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    shutil.copytree(make_shards([3, 4]), layout.CLIENTS)
    layout.RAW.symlink_to(raw)
    write_no_held_out_clients(tmp_path)
    model = network(ModelSpec("baseline_cnn", (28, 28, 1), 10))
    save_weights(layout.WEIGHTS, model, model.first_weights(np.random.default_rng(1)))
    layout.TRAINING.parent.mkdir()
    layout.TRAINING.write_text(json.dumps({"weights_sha256": hashlib.sha256(layout.WEIGHTS.read_bytes()).hexdigest()}))
    return tmp_path


def test_tests_of_other_clients(project: Path, training_set: tuple) -> None:
    layout.CLIENT_TESTS.mkdir()
    members = [np.arange(2), np.arange(2)]
    write_shards(layout.CLIENT_TESTS, "mnist", *training_set, members, 10, clients_digest="0" * 64)
    assert Manifest.read(layout.CLIENT_TESTS).clients == Manifest.read(layout.CLIENTS).clients
    with pytest.raises(PipelineError, match="client_tests holds samples of another partition"):
        stage.main()
    assert not layout.EVALUATION.exists()


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        (
            json.dumps({"weights_sha256": "ab" * 32}),
            r"models/weights\.safetensors is not the model that metrics/training",
        ),
        ("{}", "metrics/training.json names no 'weights_sha256': run `dvc repro train`"),
        ("{", "metrics/training.json names no 'weights_sha256'"),
        (None, "metrics/training.json is missing: run `dvc repro`"),
    ],
)
def test_weights_that_training_does_not_name(project: Path, training: str | None, reason: str) -> None:
    layout.TRAINING.unlink()
    if training is not None:
        layout.TRAINING.write_text(training)
    with pytest.raises(PipelineError, match=reason):
        stage.main()
    assert not layout.EVALUATION.exists()
