"""Every example of docs/extending.md: dropped into a copy of the project, chosen in params.yaml, and trained with."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from tests import ROOT

DOCUMENT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(fedpipe/\S+\.py)`:\n\n```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE))
PARAMS = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)

SMALL = {
    "partition": {"clients": 20, "leave_out": 59_000},
    "train": {"rounds": 2, "client_optimizer": {"learning_rate": 0.1}},
}

# The same clients and settings without a stage (docs/library.md says that the bits are the same).
LIBRARY = """
import fedpipe

fedpipe.pin()

from pathlib import Path
import numpy as np
from fedpipe.params import Train, load
from fedpipe.datasets.shards import Shards

shards = Shards.open(Path("data/clients"))
images, labels = shards.read(0, shards.samples)
clients = np.split(np.arange(shards.samples), shards.offsets[1:-1])
result = fedpipe.simulate(images, labels, clients, load(Train, Path("params.yaml")), classes=10)
fedpipe.save_weights(Path("models/library.safetensors"), result.network, result.weights)
"""


def merged(content: Any, changes: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(changes, dict):
        return changes
    return content | {key: merged(content.get(key), value) for key, value in changes.items()}


def change(folder: Path, changes: dict[str, Any]) -> None:
    yaml, path = YAML(typ="safe"), folder / "params.yaml"
    content = merged(yaml.load(path), changes)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = (sys.executable, *command)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def succeed(folder: Path, *command: str) -> str:
    done = run(folder, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def chosen(*files: str) -> dict[str, Any]:
    """The params of the document that choose ``files``."""
    changes: dict[str, Any] = {}
    for text in PARAMS:
        content = YAML(typ="safe").load(text)
        if "train" not in content:  # the partition scheme's, which test_extending_scheme.py tries
            continue
        value = next(iter(content["train"].values()))
        if (value if isinstance(value, str) else value[0]) in files:
            changes = merged(changes, content)
    return changes


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path], raw: Path) -> Path:
    """A copy of the project with all example files, and 20 clients of 50 real images."""
    folder = clone("extended")
    for name, content in FILES.items():
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "data/raw").symlink_to(raw)
    change(folder, SMALL)
    succeed(folder, "-m", "stages.partition")
    return folder


def test_there_is_an_example_of_each_kind() -> None:
    kinds = [Path(name).parent.name for name in FILES]
    assert sorted(kinds) == ["aggregators", "algorithms", "losses", "metrics", "models", "models"]
    assert len(PARAMS) == len(FILES) + 2  # keras_file is there already; the partition scheme has its own test


def test_examples_are_in_the_project_s_format() -> None:
    for name, content in FILES.items():
        for check in (["format", "--check"], ["check"]):
            command = [sys.executable, "-m", "ruff", *check, "--stdin-filename", name, "-"]
            done = subprocess.run(command, cwd=ROOT, input=content, capture_output=True, text=True)
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_algorithm_aggregator_model_loss_and_metric(project: Path) -> None:
    change(project, chosen("fed_avg_m", "noisy_mean", "small_cnn", "focal", "label_probability"))
    succeed(project, "-m", "stages.train")
    rounds = pd.read_csv(project / "metrics/rounds.csv")
    assert rounds["train_loss"][1] < rounds["train_loss"][0]
    assert rounds["test_label_probability"][1] > rounds["test_label_probability"][0] > 0
    assert rounds["train_label_probability"].between(0, 1).all()
    weights = load_file(project / "models/weights.safetensors")
    assert list(weights) == ["conv/bias", "conv/kernel", "dense/bias", "dense/kernel"]


@pytest.mark.slow
def test_keras_layers(project: Path) -> None:
    change(project, chosen("residual_net"))
    succeed(project, "-m", "stages.train")
    (project / "library.py").write_text(LIBRARY, encoding="utf-8")
    succeed(project, "library.py")
    same = (project / "models/library.safetensors").read_bytes() == (
        project / "models/weights.safetensors"
    ).read_bytes()
    assert same, "the library gives other bits than the stage"
    rounds = pd.read_csv(project / "metrics/rounds.csv")
    assert rounds["train_loss"][1] < rounds["train_loss"][0]
    succeed(project, "-m", "stages.evaluate")
    evaluation = json.loads((project / "metrics/evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["test"]["accuracy"] == pytest.approx(rounds["test_accuracy"][1])


@pytest.mark.slow
def test_a_keras_file(project: Path) -> None:
    """Training starts from the file's weights, and what it leaves does not need the file."""
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, "softmax")])
    model.layers[-1].kernel.assign(np.random.default_rng(0).normal(0, 0.01, (784, 10)))
    path = project / "data/start.keras"
    model.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    changes = chosen("keras_file")
    changes["train"]["keras_file"]["sha256"] = digest
    changes["train"] |= {"algorithm": "fed_avg", "aggregator": "mean", "client_optimizer": {"learning_rate": 1e-6}}
    change(project, changes)
    succeed(project, "-m", "stages.train")
    trained = load_file(project / "models/weights.safetensors")
    np.testing.assert_allclose(trained["2_dense/kernel"], model.layers[-1].kernel.numpy(), atol=1e-4)
    path.unlink()
    succeed(project, "-m", "stages.evaluate")
    refused = run(project, "-m", "stages.train")
    assert refused.returncode != 0
    assert "'train.keras_file.path' is data/start.keras, which cannot be read" in refused.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_short_run(project: Path, tmp_path: Path) -> None:
    (script,) = re.findall(r"^```python\n(import fedpipe\n.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    (project / "short.py").write_text(script, encoding="utf-8")
    assert 1.0 < float(succeed(project, "short.py").splitlines()[-1]) < 4.0
