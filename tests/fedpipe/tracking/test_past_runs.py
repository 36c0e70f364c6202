"""Runs read back from MLflow: their artifacts, and the seconds of their rounds."""

import shutil
from pathlib import Path

import pytest

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import run_events
from fedpipe.tracking.past_runs import PastRun, seconds_per_round
from tests.fedpipe.tracking.mlflow_project import fill


def test_a_run_without_a_store_is_refused_and_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(PipelineError, match="holds no runs yet"):
        PastRun("abc", layout.store())
    assert seconds_per_round("ab", layout.store()) == {} and list(tmp_path.iterdir()) == []


def test_artifacts_and_seconds(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(empty_database, tmp_path)
    project = fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = project.client
    experiment = client.create_experiment("fedpipe-mnist", (tmp_path / "mlartifacts").as_uri())
    for has_seconds in (True, False):  # the newer one was restored from the pipeline's outputs
        run = client.create_run(experiment, tags={run_events.WEIGHTS_TAG: "ab"}, run_name="a run")
        for number in (1, 2):
            client.log_metric(run.info.run_id, "seconds" if has_seconds else "train/loss", number / 4, step=number)
    client.log_artifact(run.info.run_id, "metrics/rounds.csv", "tables")
    assert (
        seconds_per_round("ab", layout.store()) == {1: 0.25, 2: 0.5} and seconds_per_round("cd", layout.store()) == {}
    )
    past = PastRun(run.info.run_id, layout.store())
    assert past.name == "a run"
    assert past.artifact(Path("metrics/rounds.csv")) == Path("metrics/rounds.csv").read_bytes()
    with pytest.raises(PipelineError, match=r"has no artifact pictures/partition.png"):
        past.artifact(Path("plots/partition.png"))
    with pytest.raises(PipelineError, match="has no run 'abc': a run's page in 'make ui' shows its id"):
        PastRun("abc", layout.store())
