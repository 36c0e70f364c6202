"""Any data set through the pipeline: nothing after download assumes 28x28 gray images, 10 classes or 60,000 samples."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_shard
from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from stages import download, evaluate, partition, train
from tests import RECIPE, ROOT

CLASSES = 4
DIGITS = (0, 1, 2, 5)


def coloured(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` images of four classes, cut to 20 x 24, each class in a colour of its own."""
    kept = np.flatnonzero(np.isin(labels, DIGITS))[:count]
    classes = np.searchsorted(DIGITS, labels[kept]).astype(np.uint8)
    tints = np.array([[255, 64, 64], [64, 255, 64], [64, 64, 255], [255, 255, 0]], np.uint16)
    pixels = images[kept, 4:24, 2:26].astype(np.uint16) * tints[classes][:, None, None, :] // 255
    return pixels.astype(np.uint8), classes


class Pipeline:
    """A project's folder with a params.yaml of its own, in which stages run as processes."""

    def __init__(self, folder: Path, download: dict, **sections: dict) -> None:
        self.folder = folder
        content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))
        for name, changes in {"download": download, **sections}.items():
            content[name] |= changes
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(content, file)

    def run(self, stage: str) -> tuple[int, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "FEDPIPE_TRACKING")}
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=self.folder,
            env=inherited | {"PYTHONPATH": str(ROOT), "FEDPIPE_TRACKING_WAIT": "60"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        return done.returncode, done.stderr

    def runs_through(self, *stages: str) -> None:
        for stage in stages:
            code, output = self.run(stage)
            assert code == 0, output


SMALL = {"partition": {"scheme": "iid", "clients": 5}, "train": {"rounds": 2}}


def colour_pipeline(training_set: tuple, raw: Path, folder: Path) -> Pipeline:
    """The pipeline before its stages, with 20 x 24 colour images of four classes, as an .npz."""
    train, test = coloured(*training_set, 1000), coloured(*RawDataset.read(raw).read_test(raw), 203)
    np.savez(folder / "colour.npz", x_train=train[0], y_train=train[1].astype(np.int64), x_test=test[0], y_test=test[1])
    sha256 = hashlib.sha256((folder / "colour.npz").read_bytes()).hexdigest()
    own = {"name": "colour_digits", "npz": {"source": "colour.npz", "sha256": sha256}}
    return Pipeline(folder, {"dataset": "idx", "idx": own}, **SMALL)


@pytest.fixture(scope="module")
def colour(training_set: tuple, raw: Path, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The pipeline after its four stages, which ran in this process, on one worker and without MLflow."""
    pipeline = colour_pipeline(training_set, raw, tmp_path_factory.mktemp("colour"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pipeline.folder)
        patch.setenv("FEDPIPE_TRACKING", "off")
        patch.setattr(train, "Worker", lambda log: nullcontext(worker))
        for stage in (download, partition, train, evaluate):
            stage.main()
    return pipeline


def test_a_colour_data_set_through_all_stages(colour: Pipeline) -> None:
    manifest = Manifest.read(colour.folder / "data/clients")
    assert (manifest.dataset, manifest.image_shape, manifest.classes) == ("colour_digits", (20, 24, 3), CLASSES)
    images, labels = read_shard(colour.folder / "data/clients", 0)
    assert images.shape == (200, 20, 24, 3) and set(labels) <= set(range(CLASSES))
    metrics = json.loads((colour.folder / "metrics/evaluation.json").read_text())
    assert pd.read_csv(colour.folder / "metrics/classes.csv")["class"].tolist() == [0, 1, 2, 3]
    # The colour gives the class away: a model that mixes channels up, or reads shards askew, does not learn it.
    assert metrics["test"]["accuracy"] > 0.8
    predictions = pd.read_csv(colour.folder / "plots/predictions.csv")
    assert len(predictions) == 203 and predictions["predicted"].between(0, CLASSES - 1).all()


@pytest.mark.slow  # its stages as processes, with MLflow
def test_its_runs_and_model_bear_its_name_and_shape(training_set: tuple, raw: Path, tmp_path: Path) -> None:
    colour = colour_pipeline(training_set, raw, tmp_path)
    colour.runs_through("download", "partition", "train", "evaluate")
    client = MlflowClient(f"sqlite:///{colour.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedpipe-colour_digits")
    assert experiment is not None and client.get_experiment_by_name("fedpipe-mnist") is None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.inputs.dataset_inputs[0].dataset.name == "colour_digits"
    assert run.data.params["train.model"] == "baseline_cnn" and not any("idx" in name for name in run.data.params)
    assert run.data.metrics["test/accuracy"] > 0.8


def test_evaluate_refuses_test_images_of_another_data_set(
    colour: Pipeline, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another data set's files in data/raw, as a download without the stages after it leaves them."""
    for name in ("data/clients", "models"):
        shutil.copytree(colour.folder / name, tmp_path / name)
    (tmp_path / "data/raw").symlink_to(raw)
    (tmp_path / "metrics").mkdir()
    shutil.copy(colour.folder / "metrics/training.json", tmp_path / "metrics")
    Pipeline(tmp_path, {}, **SMALL)
    monkeypatch.chdir(tmp_path)
    message = (
        r"data/raw holds mnist, images \(28, 28, 1\) of 10 classes, "
        r"but data/clients is made from colour_digits, images \(20"
    )
    with pytest.raises(PipelineError, match=message):
        evaluate.main()
    assert not Path("metrics/evaluation.json").exists()


def test_train_refuses_images_too_small_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = np.zeros((20, 3, 9), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    sha256 = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    own = {"name": "tiny", "npz": {"source": "a.npz", "sha256": sha256}}
    Pipeline(tmp_path, {"dataset": "idx", "idx": own}, **SMALL)
    monkeypatch.chdir(tmp_path)
    download.main()
    partition.main()
    message = "'train.model' is baseline_cnn, which takes images of at least 4 x 4 pixels, but the data set's are 3 x 9"
    with pytest.raises(PipelineError, match=message):
        train.main()
    assert not Path("models").exists() and not Path("mlflow.db").exists()


def test_more_clients_than_samples_is_refused(
    tmp_path: Path, colour: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(colour.folder / "data/raw")
    Pipeline(tmp_path, {}, partition={"clients": 1001})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"'partition.clients' is 1001, but there are only 1000 samples"):
        partition.main()


@pytest.mark.slow
def test_fashion_mnist_through_all_stages(tmp_path: Path) -> None:
    """Its real files, from FEDPIPE_FASHION_MNIST_SOURCE or the sources of params.yaml (mirrors, Debian's package)."""
    sections = {"partition": {"clients": 20, "leave_out": 58000}, "train": {"rounds": 3}}
    pipeline = Pipeline(tmp_path, {"dataset": "fashion_mnist"}, **sections)
    code, output = pipeline.run("download")
    if code:
        assert "no source gave" in output
        pytest.skip(f"Fashion-MNIST cannot be had here: {output}")
    pipeline.runs_through("partition", "train", "evaluate")
    assert Manifest.read(tmp_path / "data/clients").dataset == "fashion_mnist"
    assert json.loads((tmp_path / "metrics/evaluation.json").read_text())["test"]["accuracy"] > 0.4
    assert MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_experiment_by_name("fedpipe-fashion_mnist")
