"""Three clinics with a table each, from their files to figures: secure sums, and nothing of a clinic beside them."""

import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest
from fedpipe.federation.pinned_roster import make_identity
from fedpipe.system.certificates import make_certificates
from tests.operations.federation.test_example import merge
from tests.small_pipeline import environment

pytestmark = pytest.mark.slow
ROWS = {
    "coordinator": range(150),
    "clinic-a": range(150, 270),
    "clinic-b": range(270, 420),
    "clinic-c": range(420, 569),
}
CLINICS = [name for name in ROWS if name != "coordinator"]
WARDS = ["east", "north", "south", "west"]
CANARY = "a device that one clinic alone has"
SECONDS = 600
ROLES: dict[str, Any] = {
    "name": "patients",
    "numbers": "others",
    "categories": ["device"],
    "label": "diagnosis",
    "split": {"share": 0.01, "seed": 1},
}
TRAIN: dict[str, Any] = {
    "model": "logistic_regression",
    "rounds": 4,
    "client_weighting": "uniform",
    "aggregator": "secure_sum",
    "secure_sum": {"norm": 1.0},
    "client_optimizer": {"learning_rate": 0.1},
}


def own_table(folder: Path, name: str) -> dict[str, str]:
    """Writes a machine's rows; returns the file as params name it."""
    table = load_breast_cancer(as_frame=True).frame
    rng = np.random.default_rng(7)
    table["diagnosis"] = np.where(table.pop("target") == 1, "benign", "malignant")
    table["device"] = rng.choice(["new", "old"], len(table))
    table["ward"] = rng.choice(WARDS, len(table))
    own: pd.DataFrame = table.iloc[ROWS[name]].copy()
    if name == "clinic-b":
        own.iloc[3, own.columns.get_loc("device")] = CANARY
    if name == "coordinator":
        own = own.drop(columns="ward")
    own.to_csv(folder / "patients.csv", index=False)
    return pinned(folder / "patients.csv")


def pinned(file: Path) -> dict[str, str]:
    return {"source": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


@pytest.fixture(scope="module")
def machines(clone: Callable[[str], Path], raw: Path) -> dict[str, Path]:
    """The checkouts of the coordinator and the clinics, with their params, tables and certificates."""
    folders = {name: clone(name) for name in ROWS}
    coordinator = folders["coordinator"]
    table = ROLES | {"file": own_table(coordinator.parent, "coordinator"), "split": {"share": 0.7, "seed": 1}}
    at_sites = {"scheme": "at_sites", "clients": len(CLINICS) * len(WARDS), "at_sites": {"sites": [*CLINICS]}}
    described = {"dataset": "table", "table": table, "standardise": "training"}
    merge(coordinator / "params.yaml", {"download": described, "partition": at_sites, "train": TRAIN})
    run(coordinator, raw, "dvc", "repro", "download")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (coordinator / "federation.yaml").write_text(
            f"address: 127.0.0.1:{probe.getsockname()[1]}\nwait_seconds: 200\n"
        )
    make_certificates(coordinator / "federation-certificates", ["coordinator", *CLINICS])
    keys = {name: make_identity(coordinator / "federation-certificates", name) for name in CLINICS}
    roster = "sites:\n" + "".join(f"  {name}: {key}\n" for name, key in keys.items())
    (coordinator / "roster.yaml").write_text(roster)
    for name in CLINICS:
        folder = folders[name]
        shutil.copytree(coordinator / "federation-certificates", folder / "federation-certificates")
        (folder / "roster.yaml").write_text(roster)
        (folder / "policy.yaml").write_text(
            "algorithms: [fed_avg]\naggregators: [secure_sum]\nleast_sites: 3\nleast_clients: 3\nleast_samples: 10\n"
        )
        table = ROLES | {"file": own_table(folder.parent, name), "client": "ward"}
        agreed = pinned(coordinator / "data/raw/dataset.json")
        own = {"dataset": "table", "table": table, "standardise": None, "agreed": agreed}
        by_ward = {"scheme": "by_column", "clients": len(WARDS), "client_test": "fraction"}
        merge(folder / "params.yaml", {"download": own, "partition": by_ward})
    return folders


def run(folder: Path, raw: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(raw), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@contextmanager
def clinics(machines: dict[str, Path], raw: Path) -> Iterator[None]:
    """`make site` at each clinic."""
    address = (machines["coordinator"] / "federation.yaml").read_text().split()[1]
    started = []
    for name in CLINICS:
        command = [sys.executable, "-m", "operations.federation", "site", address, name]
        with (machines[name] / "log").open("ab") as log:
            started.append(subprocess.Popen(command, cwd=machines[name], env=environment(raw), stdout=log, stderr=log))
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait(60)


def test_clinics_with_tables_train_and_measure_together(machines: dict[str, Path], raw: Path) -> None:
    coordinator = machines["coordinator"]
    with clinics(machines, raw):
        printed = run(coordinator, raw, "dvc", "repro")
    evaluation = json.loads((coordinator / "metrics/evaluation.json").read_text())["test"]
    held_out = sum(Manifest.read(machines[name] / "data/client_tests").samples for name in CLINICS)
    assert (
        evaluation["held_out"]["samples"] == held_out > 60 and "sites" not in evaluation and "clients" not in evaluation
    )
    assert evaluation["accuracy"] > 0.8 and evaluation["held_out"]["accuracy"] > 0.8, evaluation
    assert "held-out samples by a secure sum over sites" in printed
    kinds = {RawDataset.read(machines[name] / "data/raw").kind.format.samples for name in ROWS}
    shapes = {RawDataset.read(machines[name] / "data/raw").image_shape for name in ROWS}
    assert kinds == {"float32"} and len(shapes) == 1
    for name in CLINICS:
        lines = (machines[name] / "logs/federation/audit.jsonl").read_text().splitlines()
        kinds_asked = {line["kind"] for line in map(json.loads, lines) if line["way"] == "in"}
        assert kinds_asked == {"describe", "join", "ready", "secure", "secure_measure"}
    written = [file for part in ("data", "logs", "metrics", "models") for file in (coordinator / part).rglob("*")]
    assert not [file for file in written if file.is_file() and CANARY.encode() in file.read_bytes()]
    assert CANARY in (machines["clinic-b"].parent / "patients.csv").read_text()
    table = pd.read_csv(coordinator / "plots/partition.csv")
    assert len(table) == 12 and table["samples"].isna().all()  # withheld, since sums are secure only
