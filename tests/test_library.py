"""The library alone, as docs/library.md shows it: arrays in, no params.yaml, no DVC, no MLflow."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedpipe
from fedpipe.baseline import RECIPE
from fedpipe.config import read_yaml
from fedpipe.datasets.raw import RawDataset
from tests import RECIPE as TEST_RECIPE
from tests import ROOT

SCRIPT, TABLE = re.findall(
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


@pytest.mark.slow
def test_the_table_of_the_document(tmp_path: Path) -> None:
    figure, shape = python(TABLE, tmp_path)
    assert float(figure.removeprefix("R2 ")) > 0.25 and shape == "(3, 1)"


def test_the_recipe_is_that_of_params_yaml() -> None:
    train = read_yaml(TEST_RECIPE / "params.yaml")["train"]
    for key, value in RECIPE.items():
        used = {name: train[key][name] for name in value} if isinstance(value, dict) else train[key]
        assert used == value, key


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"algorithm": "fed_prx"}, "did you mean fed_prox"),
        ({"rounds": 0}, "'train.rounds' is 0"),
        ({"fed_prox": {"mu": -1.0}}, "'train.fed_prox.mu' is -1.0"),
        ({"epochs": 2}, "unknown key 'train.epochs' (did you mean local_epochs?); allowed: "),
        ({"client_optimizer": {"rate": 0.1}}, "unknown key 'train.client_optimizer.rate'"),
    ],
)
def test_settings_that_are_not_allowed(changes: dict, reason: str) -> None:
    with pytest.raises(fedpipe.PipelineError, match=re.escape(reason)):
        fedpipe.train_settings(**changes)


def test_a_change_of_one_key_keeps_the_others() -> None:
    optimizer = fedpipe.train_settings(client_optimizer={"momentum": 0.9}).client_optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("sgd", 0.02, 0.9)


IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 1, 0], np.uint8)
WHOLE = [np.arange(4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (IMAGES / 255, LABELS, WHOLE),
            "images must be uint8 [n, height, width, channels], not float64 [4, 2, 2, 1]: p",
        ),
        ((IMAGES[..., 0], LABELS, WHOLE), "add the channel with images[..., np.newaxis]"),
        (
            (IMAGES.tolist(), LABELS, WHOLE),
            "images must be a NumPy array, uint8 [n, height, width, channels], not list",
        ),
        ((IMAGES, LABELS[:3], WHOLE), "labels must be uint8 [4], one per image, not uint8 [3]"),
        ((IMAGES, LABELS.astype(int), WHOLE), "not int64 [4]: convert them with labels.astype(np.uint8)"),
        ((IMAGES, LABELS.tolist(), WHOLE), "labels must be a NumPy array, uint8 [4], not list"),
        ((IMAGES, LABELS, []), "clients is empty"),
        ((IMAGES, LABELS, [np.array([0, 4])]), "clients[0] has indices from 0 to 4; there are samples 0 to 3"),
        ((IMAGES, LABELS, [[0], [-1]]), "clients[1] has indices from -1 to -1"),
        ((IMAGES, LABELS, [np.array([True, False, True, False])]), "clients[0] is a mask, and must be indices"),
        ((IMAGES, LABELS, [np.array([0.0, 1.0])]), "clients[0] must be indices of samples, integers [n], not float64"),
        ((IMAGES, LABELS, [[[0], [1]]]), "clients[0] must be indices of samples, integers [n], not int64 [2, 1]"),
    ],
)
def test_training_arrays_that_do_not_fit(arguments: tuple, message: str) -> None:
    with pytest.raises(fedpipe.PipelineError, match=re.escape(message)):
        fedpipe.simulate(*arguments, fedpipe.train_settings())


@pytest.mark.parametrize("name", ["test", "validation"])
@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((IMAGES / 255, LABELS), "images must be uint8 [n, 2, 2, 1], not float64"),
        ((IMAGES[..., 0], LABELS), "images must be uint8 [n, 2, 2, 1], not uint8 [4, 2, 2]: add the channel"),
        ((IMAGES[:, :1], LABELS), "images must be uint8 [n, 2, 2, 1], as the training images are, not [4, 1, 2, 1]"),
        ((IMAGES, LABELS[:3]), "labels must be uint8 [4], one per image, not uint8 [3]"),
        ((IMAGES, LABELS + np.uint8(1)), "labels go up to 2, and there are 2 classes: give classes=3"),
        ((IMAGES[:0], LABELS[:0]), "has no image: leave it out"),
        (IMAGES, "must be a pair (images, labels)"),
    ],
)
def test_samples_to_measure_on_that_do_not_fit(name: str, pair: Any, message: str) -> None:
    with pytest.raises(fedpipe.PipelineError, match=rf"{name}.*{re.escape(message)}"):
        fedpipe.simulate(IMAGES, LABELS, WHOLE, fedpipe.train_settings(), **{name: pair})


def test_labels_above_the_classes_and_a_champion_are_refused() -> None:
    with pytest.raises(fedpipe.PipelineError, match="labels go up to 4, and there are 3 classes"):
        fedpipe.simulate(IMAGES, LABELS * np.uint8(4), WHOLE, fedpipe.train_settings(), classes=3)
    with pytest.raises(fedpipe.PipelineError, match="which only the pipeline reads: pass first"):
        fedpipe.simulate(IMAGES, LABELS, WHOLE, fedpipe.train_settings(init="champion"))


def test_numbers_of_numpy_are_numbers() -> None:
    changes = {"rounds": np.int64(3), "client_optimizer": {"learning_rate": np.float32(0.5)}}
    settings = fedpipe.train_settings(**changes)
    assert settings.rounds == 3 and settings.client_optimizer.learning_rate == 0.5


def test_pictures_are_png_and_leave_the_users_back_end_alone(tmp_path: Path) -> None:
    script = """
import fedpipe; fedpipe.pin()
import matplotlib; matplotlib.use("svg")
import numpy as np
labels = np.arange(40, dtype=np.uint8) % 4
picture = fedpipe.plot_partition(labels, np.split(np.arange(40), 5), "five clients")
print(picture._repr_png_()[:4] == b"\\x89PNG", picture)
images = np.zeros((3, 8, 8, 1), np.uint8)
fedpipe.plot_predictions(images, labels[:3], np.eye(4)[[0, 2, 2]]).save("predictions.png")
print(matplotlib.get_backend())
"""
    first, backend = python(script.replace("\\\\", "\\"), tmp_path)
    assert first.startswith("True <picture, ") and backend == "svg"
    assert (tmp_path / "predictions.png").stat().st_size > 1000


@pytest.mark.parametrize("changes", [{"keep_best": True}, {"stop_at": {"accuracy": 0.5}}])
def test_a_round_is_chosen_by_samples_that_are_given(changes: dict) -> None:
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.uint8)
    for selection, samples in (("validation", {"test": (images, labels)}), ("test", {"validation": (images, labels)})):
        settings = fedpipe.train_settings(selection=selection, **changes)
        with pytest.raises(fedpipe.PipelineError, match=rf"by its {selection} accuracy: give {selection}=\(images"):
            fedpipe.simulate(images, labels, [np.arange(4)], settings, **samples)


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
    (message,) = python(script, tmp_path)
    assert message.startswith("call fedpipe.pin() before NumPy and TensorFlow are imported")


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("import numpy", "fedpipe.pin() comes too late: NumPy already chose threads and kernels"),
        (
            "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')",
            "too late: TensorFlow already",
        ),
        ("fedpipe.pin(); import numpy", "pinned"),
    ],
)
def test_pin_after_what_it_pins_is_refused(before: str, message: str, tmp_path: Path) -> None:
    script = f"""
import os, fedpipe
os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
{before}
try:
    fedpipe.pin()
    print("pinned")
except fedpipe.PipelineError as error:
    print(error)
"""
    (line,) = python(script, tmp_path)
    assert message in line
