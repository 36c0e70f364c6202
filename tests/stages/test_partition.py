"""The stage as a command: outputs, their bytes, its speed of start, and what it refuses."""

import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_shard
from tests import RECIPE, ROOT
from tests.registry_workspace import write_raw


def run(folder: Path, *edits: tuple[str, str], **limits: int) -> subprocess.CompletedProcess[str]:
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "params.yaml").write_text(text, encoding="utf-8")

    def limit() -> None:
        if limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_size"], limits["file_size"]))

    return subprocess.run(
        [sys.executable, "-m", "stages.partition"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
    )


@pytest.fixture
def project(tmp_path: Path, raw: Path) -> Path:
    return folder_with(raw, tmp_path)


def folder_with(raw: Path, folder: Path) -> Path:
    (folder / "data").mkdir()
    (folder / "data/raw").symlink_to(raw)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    outputs = ("data/clients", "data/client_tests", "data/held_out_clients", "data/validation", "plots", "metrics")
    files = [path for output in outputs for path in (folder / output).rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def test_baseline_recipe(project: Path, training_set: tuple) -> None:
    done = run(project)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.read(project / "data/clients")
    assert (manifest.clients, manifest.samples, manifest.classes) == (600, 60_000, 10)
    images, labels = read_shard(project / "data/clients", 7)
    assert (images == training_set[0][700:800]).all() and (labels == training_set[1][700:800]).all()
    counts = pd.read_csv(project / "data/clients/labels.csv", index_col="client")
    assert counts.shape == (600, 10) and (counts.sum(axis=1) == 100).all()
    assert (project / "plots/partition.png").read_bytes().startswith(b"\x89PNG")
    assert not (project / "data/clients/skew.csv").exists()
    assert Manifest.read(project / "data/client_tests").clients == 0
    assert Manifest.read(project / "data/validation").samples == 0
    first = contents(project)
    assert run(project).returncode == 0
    assert contents(project) == first


def test_validation_samples_are_images_that_no_client_has(project: Path, training_set: tuple) -> None:
    done = run(project, ("validation: 0", "validation: 1000"), ("leave_out: 0", "leave_out: 58000"))
    assert done.returncode == 0, done.stderr
    assert "1,000 validation samples in data/validation" in done.stderr
    clients = pd.read_csv(project / "data/clients/assignment.csv", dtype={"client": "Int64"})
    chosen = pd.read_csv(project / "data/validation/assignment.csv")
    assert clients["client"].notna().sum() == len(chosen) == 1000
    assert clients["client"][chosen["sample"]].isna().all()
    manifest = Manifest.read(project / "data/validation")
    assert (manifest.clients, manifest.samples) == (1, 1000)
    assert manifest.clients_digest == Manifest.read(project / "data/clients").digest
    images, labels = read_shard(project / "data/validation", 0)
    assert (images == training_set[0][chosen["sample"]]).all() and (labels == chosen["label"]).all()
    assert json.loads((project / "metrics/partition.json").read_text())["validation_samples"] == 1000


def test_imports_neither_tensorflow_nor_mlflow(project: Path) -> None:
    code = "import sys, stages.partition; print(sorted({'tensorflow', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_refuses_before_anything_is_written(project: Path) -> None:
    done = run(project, ("clients: 600", "clients: 60001"))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: params.yaml: 'partition.clients' is 60001, but there are only 60000 samples")
    assert contents(project) == {}


def test_lying_input_is_named(project: Path, raw: Path) -> None:
    (project / "data/raw").unlink()
    (project / "data/raw").mkdir()
    for file in raw.iterdir():
        (project / "data/raw" / file.name).write_bytes(file.read_bytes()[:-1])
    done = run(project)
    assert done.returncode == 1 and "train-images-idx3-ubyte has 47040015 bytes, but its header" in done.stderr
    assert contents(project) == {}


def test_full_disk_leaves_the_old_shards(project: Path) -> None:
    """A limit on the size of files is the nearest thing to a full disk that a test can have."""
    assert run(project, ("clients: 600", "clients: 20")).returncode == 0
    before = contents(project)
    done = run(project, ("clients: 600", "clients: 10"), file_size=100_000)
    assert done.returncode == 1 and done.stderr.startswith("error: data/clients cannot be written: File too large"), (
        done.stderr
    )
    assert contents(project) == before
    assert not list((project / "data").glob("*.partial"))


def test_figures_that_cannot_be_written_leave_no_new_shards(project: Path) -> None:
    (project / "metrics").write_text("in the way")
    done = run(project, ("clients: 600", "clients: 20"))
    assert done.returncode == 1 and done.stderr == "error: metrics/partition.json cannot be written: Not a directory\n"
    assert contents(project) == {}
    assert not [*project.rglob("*.partial")]


def test_natural_partition_is_recorded(project: Path, training_set: tuple) -> None:
    """A table of writers, as for FEMNIST: whose shard is whose stands beside the shards."""
    writers = ["ann", "bob", "cy"]
    rows = [f"{sample},{writers[label % 3]}" for sample, label in enumerate(training_set[1])]
    text = "\n".join(["sample,writer", *rows, ""])
    (project / "writers.csv").write_text(text, encoding="utf-8")
    pinned = f'table: writers.csv\n    sha256: "{hashlib.sha256(text.encode()).hexdigest()}"'
    old = (
        "  by_column: # a natural partition: a CSV file with the column sample and one that names the sample's client\n"
    )
    rest = "    table: ''\n    sha256: '' # of the file\n    column: client"
    done = run(
        project,
        ("scheme: contiguous", "scheme: by_column"),
        ("clients: 600", "clients: 3"),
        (old + rest, f"{old}    {pinned}\n    column: writer"),
    )
    assert done.returncode == 0, done.stderr
    assert (project / "data/clients/names.csv").read_text(encoding="utf-8") == "client,name\n0,ann\n1,bob\n2,cy\n"
    counts = pd.read_csv(project / "data/clients/labels.csv", index_col="client")
    assert (counts.loc[1, ["1", "4", "7"]] > 0).all() and counts.loc[1].sum() == counts.loc[1, ["1", "4", "7"]].sum()


def test_classes_without_a_training_sample_are_said(tmp_path: Path, raw: Path) -> None:
    """The first 200 training images less two digits, and all test images of the first 500."""
    whole = RawDataset.read(raw)
    images, labels = (part[:200] for part in whole.read_train(raw))
    kept = ~np.isin(labels, (3, 7))
    test = tuple(part[:500] for part in whole.read_test(raw))
    missing = int(np.isin(test[1], (3, 7)).sum())
    write_raw(tmp_path / "data/raw", (images[kept], labels[kept]), test)
    done = run(tmp_path, ("clients: 600", "clients: 4"))
    assert done.returncode == 0, done.stderr
    ending = f"; no client has a training sample of classes 3, 7, but {missing} of 500 test samples are of them\n"
    assert done.stderr.endswith(ending) and done.stderr.count("\n") == 1, done.stderr
    figures = json.loads((tmp_path / "metrics/partition.json").read_text(encoding="utf-8"))
    assert figures["untrained_classes"] == {"classes": 2, "test_samples": missing} and missing > 0


@pytest.mark.slow
def test_nothing_is_said_where_every_class_is_trained(project: Path) -> None:
    done = run(project, ("clients: 600", "clients: 4"))
    assert done.returncode == 0 and "no client has a training sample" not in done.stderr
    figures = json.loads((project / "metrics/partition.json").read_text(encoding="utf-8"))
    assert figures["untrained_classes"] == {"classes": 0, "test_samples": 0}
