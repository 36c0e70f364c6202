"""A project with the outputs of two runs in it: one committed, the other in the workspace; nothing is trained."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from fedpipe.errors import run_stage
from fedpipe.partitioning import skew_measures
from fedpipe.partitioning.partition_picture import plot
from operations.report.__main__ import main
from tests import ROOT

PROJECT = ("params.yaml", ".dvcignore")


def write_run(folder: Path, seed: int, clients: int = 600, classes: int = 10, rounds: int = 4) -> None:
    """Writes tables as train and evaluate do, from figures that ``seed`` draws."""
    rng = np.random.default_rng(seed)
    for name in ("metrics", "plots"):
        (folder / name).mkdir(exist_ok=True)
    accuracy = np.linspace(0.3, 0.7 + seed / 100, rounds)
    table = pd.DataFrame(
        {"round": range(1, rounds + 1), "train_loss": 2 - accuracy, "train_accuracy": accuracy, "clients": clients}
    )
    table = table.assign(non_finite=0, examples=100 * clients, bytes_down=1000 * clients, bytes_up=1000 * clients)
    table.to_csv(folder / "metrics/rounds.csv", index=False)
    actual = rng.integers(0, classes, 2000)
    predicted = np.where(rng.random(2000) < 0.8, actual, rng.integers(0, classes, 2000))
    pd.DataFrame({"actual": actual, "predicted": predicted}).to_csv(folder / "plots/predictions.csv", index=False)
    per_client = pd.DataFrame(
        {"client": range(clients), "train_samples": 100, "train_accuracy": rng.uniform(0.5, 1, clients).round(2)}
    )
    per_client = per_client.assign(test_samples=7, test_accuracy=rng.uniform(0.4, 0.9, clients).round(2))
    per_client.loc[0, ["train_samples", "train_accuracy"]] = [0, np.nan]
    per_client.to_csv(folder / "metrics/clients.csv", index=False)
    right, support = (actual == predicted), np.bincount(actual, minlength=classes)
    recall = np.bincount(actual[right], minlength=classes) / np.maximum(support, 1)
    per_class = pd.DataFrame({"class": range(classes), "precision": recall, "recall": recall, "support": support})
    per_class.to_csv(folder / "metrics/classes.csv", index=False)
    known = per_client["train_accuracy"].dropna()
    spread = {"mean": known.mean(), "worst": known.min(), "percentile_10": float(np.percentile(known, 10))}
    test = {"loss": 0.5, "accuracy": right.mean()}
    evaluation = {"test": test, "train": {"clients": spread}}
    (folder / "metrics/evaluation.json").write_text(json.dumps(evaluation))
    training = {
        "train": {"loss": 2 - accuracy[-1], "accuracy": accuracy[-1]},
        "rounds": rounds,
        "non_finite": 0,
        "weights": 54_410,
    }
    training |= {"bytes_down": 1000 * clients * rounds, "bytes_up": 1000 * clients * rounds}
    training |= {"weights_sha256": hashlib.sha256(str(seed).encode()).hexdigest()}
    (folder / "metrics/training.json").write_text(json.dumps(training))
    labels = pd.DataFrame(rng.integers(0, 20, (clients, classes)), index=pd.RangeIndex(clients, name="client"))
    figures = skew_measures.summary(labels, skew_measures.client_measures(labels))
    (folder / "metrics/partition.json").write_text(json.dumps(figures))
    plot(labels, figures, "a partition", folder / "plots/partition.png")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in ``folder`` with this project's code, and a store of its own that is not there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment = kept | {"PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "true"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def report(folder: Path, *arguments: str) -> tuple[int, str]:
    """``python -m operations.report`` in ``folder``, in this process: exit code, and what it said."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        try:
            run_stage(lambda: main(arguments))
        except SystemExit as end:
            return 1, f"{errors.getvalue()}{end.code}\n"
    return 0, errors.getvalue()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEAD has run 1, of the default params; the workspace has run 2, with two params changed."""
    folder = tmp_path_factory.mktemp("report") / "project"
    folder.mkdir()
    for name in PROJECT:
        (folder / name).write_bytes((ROOT / name).read_bytes())
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")
    del pipeline["stages"]["download"]  # it has no output in this project
    for stage in pipeline["stages"].values():
        stage["deps"] = []  # neither code nor data is here
    YAML(typ="safe").dump(pipeline, folder / "dvc.yaml")
    write_run(folder, 1)

    def git(*arguments: str) -> None:
        done = run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments)
        assert done.returncode == 0, done.stderr

    git("init", "-q")
    assert run(folder, "dvc", "init", "-q").returncode == 0
    commit_outputs(folder)
    git("add", "-A")
    git("commit", "-q", "-m", "run 1")
    write_run(folder, 2, rounds=6)
    text = (folder / "params.yaml").read_text()
    text = text.replace("scheme: contiguous", "scheme: dirichlet").replace("rounds: 10", "rounds: 6")
    (folder / "params.yaml").write_text(text)
    commit_outputs(folder)
    return folder


def commit_outputs(folder: Path) -> None:
    """Records params and outputs as DVC does, as if the stages had run."""
    committed = run(folder, sys.executable, "-c", _COMMIT_OUTPUTS)
    assert committed.returncode == 0, committed.stderr


# Hashes the outputs that are there into the cache and, with the params, into dvc.lock.
_COMMIT_OUTPUTS = """
from pathlib import Path
from dvc.repo import Repo
text = Path("dvc.yaml").read_text()
with Repo(".") as repo, repo.lock:
    for stage in repo.index.stages:
        stage.outs[:] = [out for out in stage.outs if Path(out.def_path).exists()]
        if stage.outs:
            stage.save_deps()
            stage.save_outs()
            stage.commit()
            stage.dump(update_pipeline=False)
            stage.ignore_outs()
"""


@pytest.fixture
def altered(project: Path) -> Iterator[Callable[[str, bytes | None], None]]:
    """Changes or removes a file of the workspace until the test's end."""
    kept: dict[Path, bytes] = {}

    def change(name: str, content: bytes | None) -> None:
        path = project / name
        kept.setdefault(path, path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    yield change
    for path, content in kept.items():
        path.write_bytes(content)
