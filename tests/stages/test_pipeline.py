"""The pipeline as DVC runs it, small: the same bits everywhere, nothing twice, and clear refusals.

The clones train on 1,000 real images over 250 clients for two rounds, so that a round has two whole chunks of
clients and a part of one, and evaluate on the whole test set.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from dvc.repo import Repo
from safetensors.numpy import load_file

from fedpipe.datasets.shards import Shards
from tests.fedpipe.test_pinning import HOSTILE
from tests.recorded import results_are_of_the_recipe
from tests.small_pipeline import SMALL, edit, environment, outputs, repro, stages_run

SMALL_NAME = "iid, 250 clients, 230 per round, 2 rounds, 2 epochs, rate 0.1, ..."


@pytest.fixture(scope="module")
def first(clone: Callable[[str], Path], raw: Path) -> Path:
    """A clone in which the small pipeline has run once."""
    folder = clone("first")
    edit(folder, SMALL)
    assert stages_run(repro(folder, raw, pipe=True)) == ["download", "partition", "train", "evaluate"]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [None, 1])
def test_another_clone_gives_the_same_bits(
    clone: Callable[[str], Path], first: Path, raw: Path, cpus: int | None
) -> None:
    folder = clone("again-with-a-longer-path")
    edit(folder, SMALL)
    repro(folder, raw, cpus={min(os.sched_getaffinity(0))} if cpus else None, FEDPIPE_TRACKING="off")
    assert (folder / "dvc.lock").read_bytes() == (first / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_a_hostile_environment_gives_the_same_bits(
    clone: Callable[[str], Path], first: Path, raw: Path, tmp_path: Path
) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/__init__.py").write_text("raise ImportError('another NumPy')")
    folder = clone("hostile")
    edit(folder, SMALL)
    repro(folder, raw, FEDPIPE_TRACKING="off", PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="1", MPLBACKEND="x", **HOSTILE)
    assert (folder / "dvc.lock").read_bytes() == (first / "dvc.lock").read_bytes()


def test_outputs(first: Path) -> None:
    rounds = pd.read_csv(first / "metrics/rounds.csv")
    assert rounds["round"].tolist() == [1, 2] and (rounds["clients"] == 230).all() and (rounds["examples"] == 920).all()
    assert rounds["train_loss"][1] < rounds["train_loss"][0]
    assert (rounds["bytes_down"] == 230 * 4 * 54_410).all()
    weights = load_file(first / "models/weights.safetensors")
    assert sum(w.size for w in weights.values()) == 54_410 and all(np.isfinite(w).all() for w in weights.values())
    evaluation = json.loads((first / "metrics/evaluation.json").read_text())
    predictions = pd.read_csv(first / "plots/predictions.csv")
    assert len(predictions) == 10_000
    assert evaluation["test"]["accuracy"] == (predictions["actual"] == predictions["predicted"]).mean() > 0.15
    clients = pd.read_csv(first / "metrics/clients.csv")
    assert evaluation["train"]["clients"]["mean"] == pytest.approx(clients["train_accuracy"].mean())
    assert evaluation["train"]["clients"]["worst"] == clients["train_accuracy"].min()
    assert (clients["test_samples"] == 1).all() and set(clients["test_accuracy"]) == {0, 1}
    assert evaluation["test"]["clients"]["mean"] == pytest.approx(clients["test_accuracy"].mean())
    assert evaluation["test"]["clients"]["samples"] == 250
    partition = json.loads((first / "metrics/partition.json").read_text())
    assert (partition["clients"], partition["samples"]) == (250, 1_000)
    for name in ("partition", "training", "confusion", "clients"):
        assert (first / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len((first / "logs/train/rounds.log").read_text().splitlines()) == 2


def test_one_mlflow_run_with_training_and_evaluation(first: Path) -> None:
    with sqlite3.connect(first / "mlflow.db") as store:
        runs = store.execute("select run_uuid, name, status from runs").fetchall()
        assert [(name, status) for _, name, status in runs] == [(SMALL_NAME, "FINISHED")]
        metrics = dict(store.execute("select key, value from latest_metrics").fetchall())
        params = dict(store.execute("select key, value from params").fetchall())
        tags = dict(store.execute("select key, value from tags").fetchall())
        constant = store.execute("select count(*) from metrics where key = 'clients/clients'").fetchone()
    assert constant == (1,)
    evaluation = json.loads((first / "metrics/evaluation.json").read_text())
    assert metrics["test/accuracy"] == evaluation["test"]["accuracy"]
    assert metrics["train/clients/worst"] == evaluation["train"]["clients"]["worst"]
    assert metrics["test/clients/mean"] == evaluation["test"]["clients"]["mean"]
    partition = json.loads((first / "metrics/partition.json").read_text())
    assert params["data.entropy.mean"] == str(partition["entropy"]["mean"])
    assert params["data.sizes.gini"] == str(partition["sizes"]["gini"])
    assert params["evaluate.batch_size"] == "1000" and "{}" not in params.values()
    sections = ("train/", "test/", "cost/", "clients/", "phases/", "system/")
    assert not [name for name in metrics if not name.startswith(sections)]
    assert len(tags) < 25 and tags["mlflow.note.content"].count("\n\n") == 2
    assert f"evaluated: test accuracy {evaluation['test']['accuracy']:.4f}" in tags["mlflow.note.content"]
    last = pd.read_csv(first / "metrics/rounds.csv").iloc[-1]
    assert metrics["train/accuracy"] == pytest.approx(last["train_accuracy"])
    assert not [name for name in metrics if "accuracy" in name and not name.startswith(("train/", "test/"))]


def test_nothing_changed_runs_nothing(first: Path, raw: Path) -> None:
    before = (first / "dvc.lock").read_bytes()
    output = repro(first, raw)
    assert stages_run(output) == [] and "Data and pipelines are up to date" in output
    assert (first / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"batch_size: 1000": "batch_size: 500"}, "evaluate"),
        ({"momentum: 0.0": "momentum: 0.9"}, "train"),
        ({"leave_out: 59000": "leave_out: 58000"}, "partition"),
        ({"read_timeout: 30": "read_timeout: 40"}, "download"),
    ],
)
def test_a_changed_param_concerns_one_stage(first: Path, changes: dict[str, str], changed: str) -> None:
    original = (first / "params.yaml").read_text()
    edit(first, changes)
    try:
        with chdir(first), Repo() as repo:
            concerned = list(repo.status())
    finally:
        (first / "params.yaml").write_text(original)
    assert concerned == [changed]


@pytest.mark.slow
def test_changed_rounds_train_again_but_do_not_partition(first: Path, raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(first, other, symlinks=True)
    edit(other, {"rounds: 2": "rounds: 3"})
    assert stages_run(repro(other, raw)) == ["train", "evaluate"]
    assert len(pd.read_csv(other / "metrics/rounds.csv")) == 3


@pytest.mark.slow
def test_params_edited_while_a_stage_runs_are_not_recorded(first: Path, raw: Path, tmp_path: Path) -> None:
    """DVC reads params.yaml when a stage has ended."""
    other = tmp_path / "other"
    shutil.copytree(first, other, symlinks=True)
    edit(other, {"rounds: 2": "rounds: 3"})
    before, edited = (other / "dvc.lock").read_text(), False
    with subprocess.Popen(
        ["dvc", "repro"], cwd=other, env=environment(raw), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        output = ""
        for line in running.stdout or ():
            output += line
            if not edited and line.startswith("train: baseline_cnn"):
                edit(other, {"rounds: 3": "rounds: 4"})
                edited = True
    assert running.returncode != 0 and "section 'train' was edited while the stage ran" in output, output
    assert (other / "dvc.lock").read_text() == before and len(pd.read_csv(other / "metrics/rounds.csv")) == 3

    # What was trained can be kept.
    edit(other, {"rounds: 4": "rounds: 3"})
    for command, expected in (("commit", "train"), ("repro", "Running stage 'evaluate'")):
        arguments = ["dvc", command, *(["--force", "train"] if command == "commit" else [])]
        done = subprocess.run(arguments, cwd=other, env=environment(raw), capture_output=True, text=True)
        assert done.returncode == 0 and (command == "commit" or expected in done.stdout), done.stderr
    assert "Running stage 'train'" not in done.stdout and "rounds: 3" in (other / "dvc.lock").read_text()


@pytest.mark.slow
def test_an_evaluation_tells_an_empty_store_what_was_trained(first: Path, raw: Path, tmp_path: Path) -> None:
    """The stage itself, with a param edited since, and a store that has seen nothing."""
    other = tmp_path / "other"
    shutil.copytree(first, other, symlinks=True)
    (other / "mlflow.db").unlink()
    edit(other, {"rounds: 2": "rounds: 7", "batch_size: 1000": "batch_size: 500"})
    done = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"], cwd=other, env=environment(raw), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(other / "mlflow.db") as store:
        assert store.execute("select name from runs").fetchall() == [(SMALL_NAME,)]
        params = dict(store.execute("select key, value from params").fetchall())
        tags = dict(store.execute("select key, value from tags").fetchall())
    assert params["train.rounds"] == "2" and tags["evaluate.batch_size"] == "500"
    assert not any(name.startswith("evaluate.") for name in params)


def test_a_refusal_under_dvc_keeps_the_old_outputs(first: Path, raw: Path) -> None:
    original, before = (first / "params.yaml").read_text(), outputs(first)
    edit(first, {"rate: 0.1\n": "rate: 1.0e+30\n"})
    try:
        done = subprocess.run(["dvc", "repro"], cwd=first, env=environment(raw), capture_output=True, text=True)
    finally:
        (first / "params.yaml").write_text(original)
    assert done.returncode != 0 and "error: round 1: the updates of all 230 clients were not finite" in done.stderr
    assert outputs(first) == before


def stage(folder: Path, name: str, raw: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env=environment(raw) | {"FEDPIPE_TRACKING": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"  rounds: 2": "  rouns: 2"}, "error: params.yaml: "),
        ({"batch_size: 20": "batch_size: 0"}, "error: params.yaml: 'train.batch_size' is 0: should be greater than"),
        (
            {"per_round: 230": "per_round: 251"},
            "error: params.yaml: 'train.clients_per_round' is 251, but there are 250 clients",
        ),
    ],
)
def test_bad_params_end_training_with_a_sentence(first: Path, raw: Path, changes: dict[str, str], reason: str) -> None:
    original, before = (first / "params.yaml").read_text(), outputs(first)
    edit(first, changes)
    try:
        done = stage(first, "train", raw)
    finally:
        (first / "params.yaml").write_text(original)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(reason), done.stderr
    assert "Traceback" not in done.stderr and outputs(first) == before


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_flipped_byte_in_a_shard_is_named(first: Path, raw: Path, name: str) -> None:
    path, before = first / "data/clients/shards.safetensors", outputs(first)
    content = path.read_bytes()
    path.chmod(0o644)
    shards = Shards.open(path.parent)
    place = shards.images_start + shards.offsets[3] * shards.image.bytes
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    try:
        done = stage(first, name, raw)
    finally:
        path.write_bytes(content)
    assert done.returncode == 1 and "shards.safetensors: the shard of client 3 is changed" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and outputs(first) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_training_leaves_no_worker_and_no_output(first: Path, raw: Path, number: signal.Signals) -> None:
    original, before = (first / "params.yaml").read_text(), outputs(first)
    edit(first, {"rounds: 2": "rounds: 100000"})
    log = first / "logs/train/rounds.log"
    log.unlink(missing_ok=True)
    try:
        driver = subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=first,
            env=environment(raw) | {"FEDPIPE_TRACKING": "off"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (log.is_file() and log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = [child for child in psutil.Process(driver.pid).children() if "worker_binary" in child.name()]
        assert len(workers) == 1
        os.kill(driver.pid, number)
        output, _ = driver.communicate(timeout=20)  # ends only when nobody holds the pipe any more
        assert driver.returncode == (130 if number == signal.SIGINT else -number)
        psutil.wait_procs(workers, timeout=5)
        assert not any(worker.is_running() for worker in workers)
        assert "Traceback" not in output
    finally:
        (first / "params.yaml").write_text(original)
    assert outputs(first) == before


@pytest.mark.slow
@pytest.mark.skipif(not results_are_of_the_recipe(), reason="the committed results are of another recipe")
def test_a_fresh_clone_of_the_defaults_writes_the_committed_lock(clone: Callable[[str], Path], raw: Path) -> None:
    folder = clone("defaults")
    committed = (folder / "dvc.lock").read_bytes()
    (folder / "dvc.lock").unlink()
    repro(folder, raw)
    assert (folder / "dvc.lock").read_bytes() == committed
