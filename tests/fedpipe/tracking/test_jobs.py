"""Runs of a workflow's dead jobs are closed, and nobody else's."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fedpipe.tracking import run_events
from fedpipe.tracking.jobs import close_runs_of_dead_jobs
from fedpipe.tracking.registry import Registry

DATASET = {"name": "mnist", "digest": "d", "source": "s"}


def test_a_later_job_closes_what_a_dead_one_left(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, registry = MlflowClient(store), Registry(store, tmp_path)

    def job(workflow: str, number: str) -> None:
        for name, value in (("REPOSITORY", "a/b"), ("WORKFLOW", workflow), ("RUN_ID", number), ("RUN_ATTEMPT", "1")):
            monkeypatch.setenv(f"GITHUB_{name}", value)

    def start(name: str) -> str:
        event = run_events.start({"name": name, "dataset": DATASET}, {})
        return client.create_run(experiment, tags=event["tags"], run_name=name).info.run_id

    job("retrain", "1")
    assert close_runs_of_dead_jobs(registry, "mnist") == []  # no experiment yet
    experiment = client.create_experiment("fedpipe-mnist")
    dead, ended = start("dead"), start("ended")
    client.set_terminated(ended, "FINISHED")
    job("another", "2")
    others = start("of another workflow")
    for name in ("REPOSITORY", "WORKFLOW", "RUN_ID", "RUN_ATTEMPT"):
        monkeypatch.delenv(f"GITHUB_{name}")
    persons = start("a person's")
    assert close_runs_of_dead_jobs(registry, "mnist") == []
    job("retrain", "3")
    mine = start("of this job")
    assert close_runs_of_dead_jobs(registry, "mnist") == ["dead"]
    states = {run: client.get_run(run).info.status for run in (dead, ended, others, persons, mine)}
    assert list(states.values()) == ["KILLED", "FINISHED", "RUNNING", "RUNNING", "RUNNING"]
    assert client.get_run(dead).data.tags[run_events.FAILURE_TAG].startswith("its job ended without a word")
