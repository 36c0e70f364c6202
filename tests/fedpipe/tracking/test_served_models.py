"""A model in MLflow's format works where this project is not: a stack of Keras layers, and one from a `.keras` file."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.model import LOSSES, MODELS
from fedpipe.datasets.raw import RawDataset
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.samples.kind import PIXELS, Format, Standard
from fedpipe.tracking.mlflow_store import save_model
from tests.fedpipe.tracking import clean_environment

PREDICT = """
import sys
import numpy as np
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save("probabilities.npy", model.predict(np.load("images.npy")))
assert sys.modules["fedpipe"].__file__.startswith(sys.argv[1]), sys.modules["fedpipe"].__file__
"""

NEITHER = """
import importlib.util
assert [name for name in ("fedpipe", "tensorflow_federated", "dvc") if importlib.util.find_spec(name)] == []
"""


def keras_file_params(folder: Path) -> dict[str, str]:
    import tensorflow as tf

    layers = tf.keras.layers
    path = folder / "start.keras"
    tf.keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, "softmax")]).save(path)
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("name", [pytest.param("keras_cnn", marks=pytest.mark.slow), "keras_file"])
def test_a_keras_model_is_served_without_the_project(name: str, raw: Path, tmp_path: Path) -> None:
    from mlflow.models import Model

    """One of them has batch normalization, augmentation and standardised images."""
    own: dict[str, Any] = {"batch_norm": True, "augmentation": {"flip": True}}
    params = MODELS.of(name).Params.model_validate(keras_file_params(tmp_path) if name == "keras_file" else own)
    loss_params = LOSSES.of("cross_entropy").Params()
    kind = PIXELS if name == "keras_file" else Format(standard=Standard(means=(0.25,), deviations=(0.5,)))
    model = network(ModelSpec(name, (28, 28, 1), 10, params, loss_params=loss_params, format=kind))
    weights = model.first_weights(np.random.default_rng(0))
    save_weights(tmp_path / "weights.safetensors", model, weights)
    (tmp_path / "start.keras").unlink(missing_ok=True)
    save_model(tmp_path / "model", tmp_path / "weights.safetensors", Model())
    images = RawDataset.read(raw).read_test(raw)[0][:20]
    np.save(tmp_path / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "model")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    actual = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_array_equal(actual, model.predictor(weights)(images))


@pytest.mark.slow
def test_a_model_loads_in_an_environment_of_its_own_requirements(raw: Path, tmp_path: Path) -> None:
    """There is TensorFlow, no fedpipe and no TensorFlow Federated, and the predictions have the same bits."""
    from mlflow.models import Model

    model = network(ModelSpec("baseline_cnn", (28, 28, 1), 10, loss_params=LOSSES.of("cross_entropy").Params()))
    weights = model.first_weights(np.random.default_rng(0))
    save_weights(tmp_path / "weights.safetensors", model, weights)
    save_model(tmp_path / "model", tmp_path / "weights.safetensors", Model())
    requirements = (tmp_path / "model/requirements.txt").read_text(encoding="utf-8").split()
    assert {each.partition("==")[0] for each in requirements} >= {"mlflow", "tensorflow"}
    python = clean_environment.make(tmp_path / "environment", requirements)
    images = RawDataset.read(raw).read_test(raw)[0][:20]
    np.save(tmp_path / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    for program in (NEITHER, PREDICT):
        command = [str(python), "-c", program, str(tmp_path / "model")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities.npy"), model.predictor(weights)(images))
