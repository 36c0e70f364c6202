"""`make retrain` of a table with numbers as labels: batches, champions, drift, report, scores and the served model."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from operations.retrain.outcome import OUTCOME, Outcome
from tests.batches import add_hash
from tests.operations.retrain.test_retrain import GIT, retrain
from tests.small_pipeline import environment
from tests.stages.test_tables import pinned
from tests.test_extending import change

pytestmark = pytest.mark.slow

CITIES = ["Basel", "Bern", "Zug"]
PORTS = {"diabetes": 5393, "cancer": 5394}


def frame_of(name: str) -> pd.DataFrame:
    frame = load_diabetes(as_frame=True).frame if name == "diabetes" else load_breast_cancer(as_frame=True).frame
    if name == "cancer":
        frame["target"] = np.where(frame["target"] == 1, "benign", "malignant")
    else:
        frame["target"] = frame["target"].astype(float) / 100
    rng = np.random.default_rng(4)
    return frame.assign(city=rng.choice(CITIES, len(frame)), device=rng.choice(["old", "new"], len(frame)))


def params_of(name: str, folder: Path) -> dict[str, Any]:
    numbers = name == "diabetes"
    return {
        "download": {
            "dataset": "table",
            "standardise": "training",
            "table": {
                "name": name,
                "file": pinned(folder / "table.csv") | {"source": "data/table.csv"},
                "numbers": "others",
                "categories": ["device"],
                "label": "target",
                "labels": "numbers" if numbers else "classes",
                "client": "city",
                "split": {"share": 0.3, "seed": 3},
            },
        },
        "partition": {"scheme": "by_column", "clients": 3},
        "train": {
            "model": "linear_regression" if numbers else "logistic_regression",
            "loss": "squared_error" if numbers else "cross_entropy",
            "rounds": 5,
            "client_optimizer": {"learning_rate": 0.02},
        },
    }


def run(project: Path, raw: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=project, env=environment(raw), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["diabetes", "cancer"])
def test_a_table_is_retrained_promoted_scored_and_served(
    clone: Callable[[str], Path], raw: Path, tmp_path: Path, name: str
) -> None:
    folder, frame = clone(name), frame_of(name)
    published, batch, shifted = frame[:300], frame[300:360], frame[360:400].copy()
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/incoming").mkdir(exist_ok=True)
    published.to_csv(folder / "data/table.csv", index=False)
    change(folder, params_of(name, folder / "data"))
    run(folder, raw, "git", "add", "-Af", "data/table.csv", "params.yaml")
    run(folder, raw, *GIT, "commit", "-qm", "A table")
    code, output = retrain(folder, raw)
    assert code == 0 and "is the first champion" in output, output
    first = Outcome.read(folder / OUTCOME)
    commit(folder, raw, "First model")
    run(folder, raw, sys.executable, "-m", "operations.register")
    run(folder, raw, sys.executable, "-m", "operations.promote")
    commit(folder, raw, "First champion")

    column = "bmi" if name == "diabetes" else "mean radius"
    shifted[column] += 10 * frame[column].std()
    incoming = folder / "data/incoming"
    batch.to_csv(incoming / "week-1.csv", index=False)
    shifted.to_csv(incoming / "week-2.csv", index=False)
    batch.drop(columns=column).to_csv(incoming / "broken.csv", index=False)
    for batch_name in ("week-1", "week-2", "broken"):
        add_hash(incoming / f"{batch_name}.csv")
    code, output = retrain(folder, raw, "--set", "train.rounds=8")
    assert code == 0, output
    outcome = Outcome.read(folder / OUTCOME)
    assert "has no column" in outcome.rejected["broken"]
    if name == "diabetes":
        assert sorted(outcome.new_batches) == ["week-1", "week-2"]
        assert [line for line in outcome.drifted if line.startswith("week-2 ") and "standard deviations away" in line]
    else:  # the champion of classes knows too few of its labels
        assert list(outcome.new_batches) == ["week-1"] and list(outcome.held) == ["week-2"]
    assert outcome.champion_accuracy == pytest.approx(first.accuracy) and outcome.accuracy != first.accuracy
    figures = json.loads((folder / "metrics/evaluation.json").read_text())["test"]
    assert figures["accuracy"] == pytest.approx(outcome.accuracy)
    assert ("root_mean_squared_error" in figures) == (name == "diabetes")
    summary = (folder / "reports/summary.md").read_text()
    assert "| test/accuracy | " in summary and (name == "cancer" or "images" not in summary), summary
    commit(folder, raw, "Retrained")

    rows = batch.drop(columns=["target", "city"])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    run(folder, raw, sys.executable, "-m", "operations.score", str(tmp_path / "rows.csv"))
    scored = pd.read_csv(folder / "predictions.csv")
    served = answers(folder, raw, rows, PORTS[name])
    assert len(scored) == len(rows) == len(served)
    expected = scored["target"] if name == "diabetes" else scored["probability"]
    np.testing.assert_allclose(served.max(axis=1), expected, atol=2e-6)
    if name == "diabetes":
        assert np.corrcoef(served[:, 0], batch["target"])[0, 1] > 0.4
    else:
        assert (scored["label"].to_numpy() == batch["target"].to_numpy()).mean() > 0.85


def commit(folder: Path, raw: Path, message: str) -> None:
    run(folder, raw, "git", "add", "--all")
    run(folder, raw, *GIT, "commit", "-qm", message)


def answers(folder: Path, raw: Path, rows: pd.DataFrame, port: int) -> np.ndarray:
    """The served champion's predictions, float [rows, outputs]."""
    command = [sys.executable, "-m", "operations.serve", "--port", str(port)]
    served = subprocess.Popen(command, cwd=folder, env=environment(raw))
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=10).read()
                break
            except OSError:
                time.sleep(0.5)
        body = json.dumps({"inputs": rows.to_dict("records")}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return np.array(json.loads(answer.read())["predictions"], np.float64)
    finally:
        served.terminate()
        served.wait(30)
