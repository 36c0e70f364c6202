"""Whose outbox and store: the current folder's, or those of the project whose experiment runs here."""

import sqlite3
from pathlib import Path

import pytest

from fedpipe.tracking import outbox
from tests.fedpipe.tracking.mlflow_project import EVALUATE, fill


@pytest.mark.parametrize(
    ("root", "here", "theirs"),
    [
        ("project", "project", False),  # a stage of `dvc repro`, or of an experiment in the workspace
        ("project", "project/.dvc/tmp/exps/tmpab", True),
        ("project", "project/.dvc/tmp/exps/standalone/tmpab/below", True),
        ("project", "other", False),  # a child of some stage that works elsewhere, as tests do
        ("", "project/.dvc/tmp/exps/tmpab", False),
    ],
)
def test_the_project_of_a_temporary_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, here: str, theirs: bool
) -> None:
    folder = tmp_path / here
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / root) if root else "")
    home = tmp_path / root if theirs else folder
    assert outbox.store_uri() == f"sqlite:///{home / 'mlflow.db'}"
    assert outbox.outbox().absolute() == home / "logs/tracking/pending"


def test_processes_at_once_make_one_store(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.environment["FEDPIPE_TRACKING_WAIT"] = "200"
    processes = []
    for name in ("a", "b"):
        project.environment["DVC_EXP_NAME"] = name
        processes.append(project.start("-c", EVALUATE))
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0 and "MLflow: run " in said, said
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        names = sorted(name for (name,) in store.execute("select name from runs"))
    # The same weights, but an experiment's run is its own.
    assert names == [f"{name}: baseline_cnn contiguous 600 clients 10 rounds" for name in ("a", "b")]
    assert not project.pending()
