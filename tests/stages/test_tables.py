"""A table of the user's own through the download and partition stages: roles of columns, fillings, refusals by name."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from fedpipe import params
from fedpipe.config import Download
from fedpipe.config.download import Constants, Table
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_shard
from fedpipe.datasets.sources.table import write_table
from fedpipe.errors import PipelineError
from tests import RECIPE, ROOT
from tests.test_extending import change


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """Real measurements of breast cancer, with hospitals, devices and a split; some values are missing."""
    table = load_breast_cancer(as_frame=True).frame
    rng = np.random.default_rng(7)
    table["diagnosis"] = np.where(table.pop("target") == 1, "benign", "malignant")
    table["hospital"] = rng.choice(["Basel", "Bern", "Zug"], len(table))
    table["device"] = rng.choice(["old", "new"], len(table))
    table["part"] = np.where(rng.random(len(table)) < 0.25, "test", "train")
    table.loc[table.index[::40], "mean area"] = np.nan
    table.loc[table.index[5::40], "device"] = None
    return table


ROLES: dict[str, Any] = {
    "name": "patients",
    "numbers": "others",
    "categories": ["device"],
    "label": "diagnosis",
    "client": "hospital",
    "split": "part",
    "missing": {"mean area": "median", "device": "unknown"},
}


def pinned(path: Path) -> dict[str, str]:
    return {"source": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def written(table: pd.DataFrame, folder: Path, standardise: Any = "training", **roles: Any) -> RawDataset:
    """The data set of a CSV file in ``folder``."""
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "table.csv", index=False)
    section = Table.model_validate({**ROLES, **roles, "file": pinned(folder / "table.csv")})
    settings = params.load(Download, RECIPE / "params.yaml")
    settings = settings.model_copy(update={"dataset": "table", "table": section, "standardise": standardise})
    (folder / "raw").mkdir()
    write_table(section, settings, folder / "raw")
    return RawDataset.read(folder / "raw")


def test_rows_become_standardised_numbers_and_one_hot_categories(patients: pd.DataFrame, tmp_path: Path) -> None:
    dataset = written(patients, tmp_path)
    samples, labels = dataset.read_train(tmp_path / "raw")
    assert samples.shape == ((patients["part"] == "train").sum(), 33) and samples.dtype == np.float32
    np.testing.assert_allclose(samples[:, :30].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(samples[:, :30].std(axis=0), 1, atol=1e-6)
    train = patients[patients["part"] == "train"]
    for place, device in enumerate(["new", "old", "unknown"], start=30):
        np.testing.assert_array_equal(samples[:, place], train["device"].fillna("unknown") == device)
    np.testing.assert_array_equal(labels, train["diagnosis"] == "malignant")
    clients = pd.read_csv(tmp_path / "raw/train-clients.csv")
    assert clients["client"].tolist() == train["hospital"].tolist()


def test_parquet_gives_the_same_samples_as_csv(patients: pd.DataFrame, tmp_path: Path) -> None:
    dataset = written(patients, tmp_path)
    patients.to_parquet(tmp_path / "table.parquet")
    section = Table.model_validate({**ROLES, "file": pinned(tmp_path / "table.parquet")})
    settings = params.load(Download, RECIPE / "params.yaml")
    settings = settings.model_copy(update={"dataset": "table", "table": section, "standardise": "training"})
    (tmp_path / "again").mkdir()
    write_table(section, settings, tmp_path / "again")
    assert RawDataset.read(tmp_path / "again") == dataset
    for name in ("train-samples-idx", "test-samples-idx", "train-labels-idx", "train-clients.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "raw" / name).read_bytes()


def test_test_rows_are_drawn_from_the_seed(patients: pd.DataFrame, tmp_path: Path) -> None:
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        written(patients.drop(columns="part"), tmp_path / name, split={"share": 0.2, "seed": seed})
    first, again, other = ((tmp_path / name / "raw/test-samples-idx").read_bytes() for name in "abc")
    assert first == again != other
    assert len(RawDataset.read(tmp_path / "a/raw").read_test(tmp_path / "a/raw")[1]) == int(0.2 * len(patients))


def test_constants_take_the_place_of_means(patients: pd.DataFrame, tmp_path: Path) -> None:
    names = ["mean radius", "mean texture"]
    constants = Constants(means=dict.fromkeys(names, 10.0), deviations=dict.fromkeys(names, 2.0))
    dataset = written(patients, tmp_path, constants, numbers=names, categories=[], missing={})
    samples, _ = dataset.read_train(tmp_path / "raw")
    wanted = (patients[patients["part"] == "train"][names].to_numpy() - 10) / 2
    np.testing.assert_array_equal(samples, wanted.astype(np.float32))


FEW: dict[str, Any] = {"numbers": ["mean radius"], "categories": [], "missing": {}}


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ({"missing": {"device": "unknown"}}, "column 'mean area' has no value in"),
        ({"missing": {"mean area": "mean"}}, "column 'device' has no value in"),
        (
            {"missing": {"mean area": "often", "device": "x"}},
            "'download.table.missing.mean area' is often; allowed: mean",
        ),
        ({"missing": {"mean rea": "mean"}}, "'download.table.missing' names 'mean rea', which is no column"),
        ({"categories": ["device", "ward"]}, "has no column ward; it has"),
        ({"split": "hospital", "client": None}, "column 'hospital' has 'Basel'; each row says train or test there"),
        ({**FEW, "label": "mean texture"}, "different labels in the training rows; classes are 2 to 256"),
        ({"categories": []}, "column 'device' has '"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    patients: pd.DataFrame, tmp_path: Path, roles: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError) as refused:
        written(patients, tmp_path, **roles)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ({"categories": ["diagnosis"]}, "column 'diagnosis' has two roles"),
        ({"numbers": [], "categories": []}, "name the columns of a sample"),
        ({"label": ["a", "b"]}, "several label columns must be numbers"),
    ],
)
def test_roles_that_contradict_each_other_are_refused(roles: dict[str, Any], sentence: str) -> None:
    file = {"source": "a.csv", "sha256": "0" * 64}
    with pytest.raises(ValueError, match=sentence):
        Table.model_validate({**ROLES, **roles, "file": file})


def stage(folder: Path, name: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"stages.{name}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.stderr if done.returncode else ""


def test_a_table_of_numbers_is_partitioned_by_its_clients(tmp_path: Path) -> None:
    """And the other way round: published files replace the table's."""
    frame = load_diabetes(as_frame=True).frame
    frame["city"] = np.random.default_rng(1).choice(["b", "a", "c"], len(frame))
    frame.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "params.yaml").write_bytes((RECIPE / "params.yaml").read_bytes())
    table = {"name": "diabetes", "numbers": "others", "label": "target", "labels": "numbers", "client": "city"}
    table |= {"file": pinned(tmp_path / "table.csv"), "split": {"share": 0.2, "seed": 3}}
    download = {"dataset": "table", "standardise": "training", "table": table}
    change(tmp_path, {"download": download, "partition": {"scheme": "by_column", "clients": 3}})
    assert stage(tmp_path, "download") == "" and stage(tmp_path, "partition") == ""
    manifest = Manifest.read(tmp_path / "data/clients")
    assert (manifest.clients, manifest.classes, manifest.kind.outputs) == (3, 0, 1)
    samples, labels = read_shard(tmp_path / "data/clients", 0)
    raw = tmp_path / "data/raw"
    every, targets = RawDataset.read(raw).read_train(raw)
    mine = pd.read_csv(raw / "train-clients.csv")["client"].to_numpy() == "a"
    np.testing.assert_array_equal(samples, every[mine])
    np.testing.assert_array_equal(labels, targets[mine])
    change(tmp_path, {"partition": {"concept": {"share": 0.5}}})
    assert "'partition.concept.share' is 0.5, which permutes classes" in stage(tmp_path, "partition")
    mnist = {"dataset": "mnist", "standardise": None}
    change(tmp_path, {"download": mnist, "partition": {"scheme": "contiguous"}})
    assert stage(tmp_path, "download") == ""
    assert RawDataset.read(raw).name == "mnist" and not list(raw.glob("*samples*")) and not list(raw.glob("*.csv"))
