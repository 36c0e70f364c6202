"""For tests of the model registry: a workspace with real test images, models trained for real, and a store."""

import functools
import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from dvc.repo import Repo

import layout
from fedpipe.config import read_yaml
from fedpipe.contracts.model import MODELS
from fedpipe.datasets import raw as raw_data
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, write_shards
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import network, scale
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.seeds import Purpose, generator
from fedpipe.tracking import journal, writer
from operations.register import __main__ as register
from tests import RECIPE
from tests.small_pipeline import write_no_held_out_clients

TEST_IMAGES = 1000
# The stages with the inputs and outputs that the registry's commands look at.
PIPELINE = """
stages:
  download: {cmd: "true", params: [download], outs: [data/raw]}
  partition: {cmd: "true", deps: [data/raw], params: [partition], outs: [data/clients, data/client_tests]}
  train:
    cmd: "true"
    deps: [data/clients]
    params: [train]
    outs: [models/weights.safetensors, metrics/training.json, metrics/rounds.csv]
  evaluate:
    cmd: "true"
    deps: [data/raw, data/clients, data/client_tests, models/weights.safetensors, metrics/training.json]
    params: [evaluate]
    outs: [metrics/evaluation.json]
"""
# What git ignores in a project, and what tests write.
IGNORED = (
    "data",
    "models/*.safetensors",
    "models/registry",
    "mlflow.db*",
    "mlartifacts",
    "logs",
    ".dvc",
    "decision.json",
)
MODEL = network(ModelSpec("baseline_cnn", (28, 28, 1), 10))


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


def write_raw(folder: Path, train: tuple, test: tuple, name: str = "mnist") -> RawDataset:
    """data/raw of the given images and labels."""
    folder.mkdir(parents=True)
    for split, (images, labels) in (("train", train), ("test", test)):
        write_idx(folder / f"{split}-images", images)
        write_idx(folder / f"{split}-labels", labels)
    splits = [raw_data.Split(images=f"{split}-images", labels=f"{split}-labels") for split in ("train", "test")]
    return raw_data.describe(folder, name, *splits)


@functools.cache
def train_models(folder: Path) -> dict[str, list[np.ndarray]]:
    """Weights of the baseline CNN after 30 and 700 steps of plain SGD on MNIST in ``folder``."""
    images, labels = RawDataset.read(folder).read_train(folder)
    variables = [tf.Variable(w) for w in MODEL.first_weights(generator(1, Purpose.INITIAL_WEIGHTS))]

    @tf.function
    def step(batch: tf.Tensor, expected: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = MODEL.forward([tf.convert_to_tensor(v) for v in variables], scale(batch), Dropout())
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(expected, logits))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)

    trained = {}
    for number in range(700):
        if number == 30:
            trained["weak"] = [v.numpy() for v in variables]
        part = slice(20 * number, 20 * number + 20)
        step(images[part], labels[part].astype(np.int32))
    trained["strong"] = [v.numpy() for v in variables]
    # The same predictions from other bytes: all logits higher by a quarter.
    trained["twin"] = [*trained["strong"][:-1], trained["strong"][-1] + np.float32(0.25)]
    return trained


class Workspace:
    """The folder of a project whose pipeline ran; the test's current one."""

    def __init__(self, path: Path, models: dict[str, list[np.ndarray]]) -> None:
        self.path, self.models, self.network = path, models, MODEL

    def take_keras(self, kind: str) -> None:
        """From here on the model is a Keras one with weights ``first``: of the file ``kind`` of fedpipe/models."""
        params = {}
        if kind == "keras_file":
            layers = tf.keras.layers
            stack = [layers.Input((28, 28, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)]
            stack += [layers.Flatten(), layers.Dense(10, activation="softmax")]
            tf.keras.Sequential(stack).save("data/start.keras")
            digest = hashlib.sha256(Path("data/start.keras").read_bytes()).hexdigest()
            params = {"path": "data/start.keras", "sha256": digest}
        self.network = network(ModelSpec(kind, (28, 28, 1), 10, MODELS.of(kind).Params(**params)))
        self.models = {"first": self.network.first_weights(np.random.default_rng(1))}

    def evaluated(self, model: str, track: bool = True, committed: bool = True) -> float:
        """As if `dvc repro` had trained and evaluated ``model``; returns its accuracy."""
        weights, evaluation = Path("models/weights.safetensors"), Path("metrics/evaluation.json")
        save_weights(weights, self.network, self.models[model])
        raw = RawDataset.read(Path("data/raw"))
        images, labels = raw.read_test(Path("data/raw"))
        accuracy = float((self.network.classifier(self.models[model])(images).argmax(axis=1) == labels).mean())
        sha = hashlib.sha256(weights.read_bytes()).hexdigest()
        Path("metrics").mkdir(exist_ok=True)
        Path("metrics/training.json").write_text(json.dumps({"train": {"loss": 1.0}, "weights_sha256": sha}))
        Path("metrics/rounds.csv").write_text("round,train_loss,train_accuracy\n1,1.0,0.5\n")
        evaluation.write_text(json.dumps({"test": {"loss": 0.5, "accuracy": accuracy}}))
        self.commit(committed)
        if track:
            manifest = Manifest.read(Path("data/clients"))
            dataset = {"name": manifest.dataset, "digest": manifest.digest, "source": "data/clients"}
            started = {
                "name": f"the {model} one",
                "dataset": dataset,
                "params": read_yaml(layout.PARAMS),
                "tags": layout.pipeline_files().tags(),
            }
            with journal.record_training(started, layout.outbox()) as run:
                run.log_results(weights)
            places = layout.outbox(), layout.pipeline_files()
            journal.record_evaluation(*places, weights, {"test": {"loss": 0.5, "accuracy": accuracy}})
        return accuracy

    def commit(self, in_git: bool = True) -> None:
        """As if `dvc repro` had made what is here, and a person had committed it: DVC itself writes dvc.lock."""
        with Repo() as repo:
            repo.commit(force=True)
        if in_git:
            git("add", "--all")
            git("commit", "--quiet", "--allow-empty", "--message", "results")

    def register(self, model: str) -> float:
        """Evaluates and registers ``model``."""
        accuracy = self.evaluated(model)
        register.main([])
        return accuracy


def git(*arguments: str) -> str:
    """Runs git in the current folder, and returns what it wrote."""
    nobody = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "gc.auto=0"]
    return subprocess.run(["git", *nobody, *arguments], capture_output=True, text=True, check=True).stdout.strip()


class _NoFollower:
    """Journals stay until the command under test delivers them."""

    def poll(self) -> int | None:
        return None

    def wait(self, seconds: float | None = None) -> int:
        return 0


@pytest.fixture(scope="session")
def small_data(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data/ with 1,000 real test images and four clients of 50 training images."""
    folder = tmp_path_factory.mktemp("small") / "data"
    whole = RawDataset.read(raw)
    train, test = whole.read_train(raw), whole.read_test(raw)
    write_raw(folder / "raw", tuple(a[:200] for a in train), tuple(a[:TEST_IMAGES] for a in test))
    (folder / "clients").mkdir()
    write_shards(folder / "clients", "mnist", *train, list(np.arange(200).reshape(4, 50)), 10)
    (folder / "client_tests").mkdir()
    write_shards(folder / "client_tests", "mnist", *test, [], 10)
    write_no_held_out_clients(folder.parent)
    return folder


@pytest.fixture
def workspace(
    raw: Path, small_data: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A workspace with a store of its own, in which the test stands."""
    shutil.copy(empty_database, tmp_path)
    shutil.copytree(small_data, tmp_path / "data")
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / ".gitignore").write_text("".join(f"/{name}\n" for name in IGNORED))
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    git("init", "--quiet", "--initial-branch", "main")
    for name in ("FEDPIPE_TRACKING", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(writer, "_start_follower", lambda *_: _NoFollower())
    return Workspace(tmp_path, train_models(raw))
