"""The library alone, as docs/library.md shows it: arrays in, no params.yaml, no DVC, no MLflow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fedpipe
from fedpipe.baseline import RECIPE
from fedpipe.config import read_yaml
from fedpipe.datasets.raw import RawDataset
from tests import RECIPE as TEST_RECIPE
from tests import ROOT

(SCRIPT,) = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL | re.M
)
LOADED = """
import sys
print(sorted({name.split(".")[0] for name in sys.modules} & {"mlflow", "dvc", "tensorflow", "numpy", "pydantic"}))
"""


def python(script: str, folder: Path) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_importing_it_loads_nothing(tmp_path: Path) -> None:
    assert python("import fedpipe" + LOADED, tmp_path) == ["[]"]


@pytest.mark.slow
def test_the_script_of_the_document(raw: Path, tmp_path: Path) -> None:
    dataset = RawDataset.read(raw)
    arrays = [part[..., 0] if part.ndim == 4 else part for part in (*dataset.read_train(raw), *dataset.read_test(raw))]
    np.savez(tmp_path / "mnist.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))
    first, second, prediction, loaded = python(SCRIPT + LOADED, tmp_path)
    assert first.startswith("round 1/2: train loss ") and second.startswith("round 2/2: train loss ")
    accuracies = [float(re.findall(r"test ([\d.]+)", line)[0]) for line in (first, second)]
    assert accuracies[1] > accuracies[0] > 0.1
    assert all(digit in map(str, range(10)) for digit in prediction.split())
    assert loaded == "['numpy', 'pydantic', 'tensorflow']"
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.npz"]


def test_the_recipe_is_that_of_params_yaml() -> None:
    train = read_yaml(TEST_RECIPE / "params.yaml")["train"]
    for key, value in RECIPE.items():
        told = {name: train[key][name] for name in value} if isinstance(value, dict) else train[key]
        assert told == value, key


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "fed_prx"}, "did you mean fed_prox"),
        ({"rounds": 0}, "'train.rounds' is 0"),
        ({"fed_prox": {"mu": -1.0}}, "'train.fed_prox.mu' is -1.0"),
        ({"epochs": 2}, "unknown key 'train.epochs' (did you mean local_epochs?); allowed: "),
        ({"client_optimizer": {"rate": 0.1}}, "unknown key 'train.client_optimizer.rate'"),
    ],
)
def test_settings_that_are_not_allowed(changes: dict, said: str) -> None:
    with pytest.raises(fedpipe.PipelineError, match=re.escape(said)):
        fedpipe.train_settings(**changes)


def test_a_change_of_one_key_keeps_the_others() -> None:
    optimizer = fedpipe.train_settings(client_optimizer={"momentum": 0.9}).client_optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("sgd", 0.02, 0.9)


def test_arrays_that_do_not_fit() -> None:
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.uint8)
    settings, whole = fedpipe.train_settings(), [np.arange(4)]
    for arguments, said in (
        ((images / 255, labels, whole), "images must be uint8"),
        ((images[..., 0], labels, whole), "images must be uint8"),
        ((images, labels[:3], whole), "labels must be uint8 [4]"),
        ((images, labels, [np.array([0, 4])]), "clients[0] has indices from 0 to 4"),
    ):
        with pytest.raises(fedpipe.PipelineError, match=re.escape(said)):
            fedpipe.simulate(*arguments, settings)


@pytest.mark.parametrize("changes", [{"keep_best": True}, {"stop_at": {"accuracy": 0.5}}])
def test_a_round_is_chosen_by_samples_that_are_given(changes: dict) -> None:
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.uint8)
    for selection, given in (("validation", {"test": (images, labels)}), ("test", {"validation": (images, labels)})):
        settings = fedpipe.train_settings(selection=selection, **changes)
        with pytest.raises(fedpipe.PipelineError, match=rf"by its {selection} accuracy: give {selection}=\(images"):
            fedpipe.simulate(images, labels, [np.arange(4)], settings, **given)


def test_the_best_round_is_that_of_the_validation_samples(raw: Path) -> None:
    """They have other labels than the test images, so that another round is best on them."""
    dataset = RawDataset.read(raw)
    images, labels = (part[:120] for part in dataset.read_train(raw))
    test = tuple(part[:300] for part in dataset.read_test(raw))
    validation = images[100:], (labels[100:] + 1) % 10
    rate = {"learning_rate": 0.5}
    settings = fedpipe.train_settings(model="logistic_regression", rounds=4, keep_best=True, client_optimizer=rate)
    clients = np.array_split(np.arange(100), 4)
    result = fedpipe.simulate(images, labels, clients, settings, test=test, validation=validation)
    best = max(result.rounds, key=lambda record: record.accuracy_on("validation") or 0.0)
    assert best.round != max(result.rounds, key=lambda record: record.test_accuracy or 0.0).round
    right = result.predict(validation[0]).argmax(axis=1) == validation[1]
    assert right.mean() == best.accuracy_on("validation")


def test_without_pin_it_is_refused(tmp_path: Path) -> None:
    script = """
import os
os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
import numpy as np, fedpipe
try:
    fedpipe.simulate(np.zeros((4, 9, 9, 1), np.uint8), np.zeros(4, np.uint8), [np.arange(4)], fedpipe.train_settings())
except fedpipe.PipelineError as error:
    print(error)
"""
    (said,) = python(script, tmp_path)
    assert said.startswith("call fedpipe.pin() before NumPy and TensorFlow are imported")
