"""A retraining killed in its training ends in another clone: with the same bits, as the same run in MLflow."""

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tests.batches import add_npz
from tests.operations.retrain.test_retrain import GIT, retrain
from tests.small_pipeline import SMALL, edit, environment, outputs, stages_run

ROUNDS, KILLED_AFTER = 10, 4
# Clients keep state, so files of theirs belong to a checkpoint; and every round is saved.
RECIPE = SMALL | {"  algorithm: fed_avg": "  algorithm: scaffold", "    seconds: 10 ": "    seconds: 0 "}
RECIPE["  rounds: 10"] = f"  rounds: {ROUNDS}"


def kept(folder: Path, raw: Path, command: str, state: Path) -> str:
    called = [sys.executable, "-m", "operations.retrain.kept", command, str(state)]
    done = subprocess.run(called, cwd=folder, env=environment(raw), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def digests(folder: Path) -> dict[str, str]:
    """Of every result; what was downloaded from the model registry is none."""
    results = {name: content for name, content in outputs(folder).items() if not name.startswith("models/registry")}
    return {name: hashlib.sha256(content).hexdigest() for name, content in results.items()}


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path], raw: Path, training_set: tuple[np.ndarray, np.ndarray]) -> Path:
    """A clone of a small recipe, with a batch that is in no commit."""
    folder = clone("killed")
    edit(folder, RECIPE)
    subprocess.run([*GIT, "commit", "-qam", "small"], cwd=folder, env=environment(raw), check=True)
    add_npz(folder / "data/incoming", "week-1", training_set[0][:40], training_set[1][:40])
    return folder


@pytest.mark.slow
def test_killed_packed_and_unpacked_elsewhere_it_ends_with_the_same_bits(
    project: Path, raw: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(project, whole)
    code, output = retrain(whole, raw)
    assert code == 0, output

    code, output = retrain(project, raw, until=f"round {KILLED_AFTER}/{ROUNDS}")
    assert code == -signal.SIGKILL, output
    packed = kept(project, raw, "pack", tmp_path / "state")
    assert "checkpoint" in packed, packed

    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["git", "clone", "-q", str(project), str(elsewhere)], check=True)
    shutil.rmtree(project)  # nothing but the state is left
    assert "`make retrain` resumes it" in kept(elsewhere, raw, "unpack", tmp_path / "state")
    client = MlflowClient(f"sqlite:///{elsewhere / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedpipe-mnist").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "KILLED"

    code, output = retrain(elsewhere, raw)
    assert code == 0 and "resumes at round" in output, output
    assert digests(elsewhere) == digests(whole)
    runs = client.search_runs([experiment])
    assert len(runs) == 1, ([(run.info, run.data.tags, run.data.params) for run in runs], output)
    (run,) = runs
    assert run.info.status == "FINISHED" and "after round" in run.data.tags["fedpipe.resumed"]
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(set(steps)) == sorted(steps) and set(range(1, ROUNDS + 1)) <= set(steps)

    # What has ended is not trained again in the next clone.
    kept(elsewhere, raw, "pack", tmp_path / "next")
    subprocess.run([*GIT, "add", "-A"], cwd=elsewhere, check=True)
    subprocess.run([*GIT, "commit", "-qm", "retrained"], cwd=elsewhere, check=True)
    last = tmp_path / "last"
    subprocess.run(["git", "clone", "-q", str(elsewhere), str(last)], check=True)
    kept(last, raw, "unpack", tmp_path / "next")
    subprocess.run(["dvc", "checkout", "-q", "--allow-missing"], cwd=last, env=environment(raw), check=True)
    done = subprocess.run(["dvc", "repro"], cwd=last, env=environment(raw), capture_output=True, text=True)
    assert done.returncode == 0 and stages_run(done.stdout) == ["download", "partition"], done.stdout + done.stderr
    assert digests(last) == digests(elsewhere)
    report = [sys.executable, "-m", "operations.report", "HEAD", "workspace"]
    subprocess.run(report, cwd=last, env=environment(raw) | {"PYTHONPATH": str(last)}, check=True)
    assert (last / "reports/report.html").stat().st_size > 10_000
