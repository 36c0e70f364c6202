"""Two processes that tell the same store of the same weights at once."""

import sqlite3
from pathlib import Path

import pytest

from tests.fedpipe.tracking.mlflow_project import EVALUATE, fill


@pytest.mark.slow
def test_processes_at_once_make_one_store(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.environment["FEDPIPE_TRACKING_WAIT"] = "200"
    processes = []
    for name in ("a", "b"):
        project.environment["DVC_EXP_NAME"] = name
        processes.append(project.start("-c", EVALUATE))
    for process in processes:
        _, output = process.communicate(timeout=300)
        assert process.returncode == 0 and "MLflow: run " in output, output
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        names = sorted(name for (name,) in store.execute("select name from runs"))
    # The same weights, but an experiment's run is its own.
    assert names == ["a: default recipe", "b: default recipe"]
    assert not project.pending()
