"""MLflow for real: SQLite, a server that comes and goes, processes that are killed, and the model it loads."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import journal, run_events, writer
from fedpipe.tracking.connection import translated
from fedpipe.tracking.delivery import Unreachable, ship
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.pipeline import TRAINED_BY
from operations.report.sources import MlflowRun
from tests.fedpipe.tracking.mlflow_project import (
    DRIVER,
    EVALUATE,
    Project,
    answers,
    eventually,
    fill,
    free_port,
    running,
)
from tests.recorded import DEFAULTS


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Project:
    """A project with a store of its own and no runs."""
    shutil.copy(empty_database, tmp_path)
    return fill(tmp_path)


def test_a_training_is_seen_while_it_runs_and_its_evaluation_joins_it(project: Project):
    driver = project.train(rounds=8, seconds=1.0)
    eventually(lambda: project.runs() and len(project.history(project.runs()[0], "train/loss")) >= 2, 20)
    assert driver.poll() is None and project.runs()[0].info.status == "RUNNING"
    _, printed = driver.communicate(timeout=60)
    assert printed == f"MLflow: run baseline_cnn contiguous 600 clients 3 rounds in {project.uri}\n"
    assert project.run("-c", EVALUATE)[2] == printed

    (run,) = project.runs()
    assert run.info.status == "FINISHED" and not project.pending()
    assert project.history(run, "train/loss") == [(n, 1 / n) for n in range(1, 9)]
    assert 7000 < run.info.end_time - run.info.start_time < 12000
    assert run.data.metrics["test/accuracy"] == 0.79 and run.data.metrics["total_seconds"] == 2.5
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert (
        run.data.params["train.client_optimizer.learning_rate"] == "0.02"
        and "download.sources.mnist" in run.data.params
    )
    assert "fedpipe.git_dirty" in run.data.tags and not any("environment" in tag for tag in run.data.tags)
    assert run.data.tags["fedpipe.data_sha256"] == "ab" * 32 and len(run.data.tags["fedpipe.weights_sha256"]) == 64
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("mnist", ("ab" * 32)[:36])
    assert project.artifacts(run) == ["environment.json", "params.yaml", "pictures", "tables"]
    assert run.data.tags["mlflow.note.content"].startswith("Trained: baseline_cnn by fed_avg and mean: 10 rounds, all")
    ending = "\n\nResult: finished after 2 rounds, evaluated: test accuracy 0.7900"  # the rounds of metrics/rounds.csv
    assert run.data.tags["mlflow.note.content"].endswith(ending)
    assert project.artifacts(run, "pictures") == ["pictures/a.png"]
    assert run.info.artifact_uri.startswith((project.path / "mlartifacts").as_uri())
    (output,) = run.outputs.model_outputs
    assert project.client.get_logged_model(output.model_id).status == "READY"


def test_a_killed_training_ends_as_killed_and_leaves_no_process(project: Project):
    driver = project.train(rounds=100, seconds=0.2)
    eventually(lambda: project.runs() and project.history(project.runs()[0], "train/loss"), 20)
    (follower,) = psutil.Process(driver.pid).children()
    outputs = {str(Path(f"/proc/{follower.pid}/fd/{n}").readlink()) for n in (1, 2)}
    assert outputs == {str(project.path / "logs/tracking.log")}  # else `dvc repro | cat` would wait for it
    driver.kill()
    rounds = driver.communicate(timeout=10)[0].count("round")
    assert eventually(lambda: not follower.is_running(), 15) < 5
    (run,) = project.runs()
    assert run.info.status == "KILLED" and not project.pending()
    assert len(project.history(run, "train/loss")) in (rounds, rounds + 1)  # recorded before it is printed


@pytest.mark.slow
def test_failure_and_ctrl_c_are_the_runs_status(project: Project):
    failing, stopped = project.train(ending="fail"), project.train(rounds=100, seconds=0.2)
    stopped.stdout.readline()
    os.killpg(stopped.pid, signal.SIGINT)
    outputs = [process.communicate(timeout=60)[1] for process in (failing, stopped)]
    assert "ValueError: diverged" in outputs[0] and "KeyboardInterrupt" in outputs[1]
    assert all("MLflow: run baseline_cnn" in text for text in outputs)  # each by its own follower
    runs = {run.info.status: run for run in project.runs()}
    assert set(runs) == {"FAILED", "KILLED"}, outputs
    assert runs["FAILED"].data.tags["fedpipe.failure"] == "ValueError: diverged"
    notes = {status: run.data.tags["mlflow.note.content"].split("\n\n")[-1] for status, run in runs.items()}
    assert notes["FAILED"] == "Result: failed after 3 rounds: accuracy train 1.0000"
    assert notes["KILLED"].startswith("Result: stopped by Ctrl-C; `dvc repro` resumes it, after ")


@pytest.mark.slow
def test_an_evaluation_without_a_run_makes_one_from_the_outputs(project: Project, monkeypatch: pytest.MonkeyPatch):
    """With the params of the training: params.yaml was edited since; and the same weights are evaluated in two ways."""
    params = project.path / "params.yaml"
    params.write_text(params.read_text().replace("rounds: 10", "rounds: 99"))
    for size in (1000, 500):
        argument = f', params={{"evaluate": {{"batch_size": {size}}}}})'
        assert project.run("-c", EVALUATE.rstrip().removesuffix(")") + argument)[0] == 0
        (run,) = project.runs()
        assert run.data.tags.get("evaluate.batch_size") == (None if size == 1000 else "500")  # a param stays
        defaults = run_events.flat_params({name: DEFAULTS[name] for name in TRAINED_BY})
        defaults["evaluate.batch_size"] = "1000"
        assert run.data.params == {name: value for name, value in defaults.items() if "checkpoint" not in name}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", project.uri)
        read = MlflowRun(run.info.run_id).params()
        kept = {name: value for name, value in run_events.flat_params(read).items() if "checkpoint" not in name}
        assert kept == run.data.params | {"evaluate.batch_size": str(size)}
    assert run.data.tags["fedpipe.restored"] == "true" and run.info.status == "FINISHED"
    assert run.info.run_name == "default recipe"
    assert set(project.history(run, "train/loss")) == {(1, 2.0), (2, 1.5)}
    assert project.artifacts(run, "tables") == ["tables/rounds.csv", "tables/training.json"]
    assert len(run.outputs.model_outputs) == 1 and run.data.metrics["test/accuracy"] == 0.79


@pytest.mark.slow
def test_a_server_that_is_down_loses_nothing(tmp_path: Path, empty_database: Path):
    port = free_port()
    project = fill(tmp_path / "project", f"http://127.0.0.1:{port}")
    server_folder = tmp_path / "server"
    server_folder.mkdir()
    shutil.copy(empty_database, server_folder)

    code, out, error = project.run("-c", DRIVER, "5", "1.0", "end")
    assert code == 0 and "trained" in out
    kept = f"MLflow: {project.uri} cannot be reached (Connection refused); the run"
    assert f"{kept} continues" in error and f"{kept} continued, and its 8 events are kept" in error
    assert project.run("-c", EVALUATE)[0] == 0
    code, _, error = project.run("-m", "operations.sync")
    assert code == 1 and "cannot be reached (Connection refused); 2 of 2 journals stay" in error
    assert error.count("\n") == 1

    store = ["--backend-store-uri", f"sqlite:///{server_folder}/mlflow.db", "--artifacts-destination", "artifacts"]
    command = ["mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=server_folder, env=environment, stderr=subprocess.DEVNULL, text=True
    )
    with running(server):
        eventually(lambda: answers(f"{project.uri}/health"), 60)
        syncs = [project.start("-m", "operations.sync") for _ in range(2)]
        outcomes = [sync.communicate(timeout=60) for sync in syncs]
        assert [sync.returncode for sync in syncs] == [0, 0], outcomes
        assert "".join(out for out, _ in outcomes).count("logged ") == 2
        assert "".join(error for _, error in outcomes) == ""
        (run,) = project.runs()
        assert run.info.status == "FINISHED" and not project.pending()
        assert project.history(run, "train/loss") == [(n, 1 / n) for n in range(1, 6)]
        assert 4000 < run.info.end_time - run.info.start_time < 9000  # the training's own times
        assert run.data.metrics["test/accuracy"] == 0.79 and "fedpipe.restored" not in run.data.tags
        assert project.artifacts(run) == ["params.yaml", "pictures", "tables"]
        assert len(run.outputs.model_outputs) == 1


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_delivered_twice_is_logged_once(project: Project, monkeypatch: pytest.MonkeyPatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(project.path)
    monkeypatch.delenv("FEDPIPE_TRACKING", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(writer, "_start_follower", lambda *_: None)
    started = {"name": "a run", "dataset": {"name": "mnist", "digest": "ab", "source": "x"}}
    with journal.record_training(started, layout.outbox()) as run:
        run.log_round(1, {"train_loss": 1.0})
        run.log_results(Path("models/weights.safetensors"), [Path("metrics/rounds.csv")])
    (recorded,) = layout.outbox().pending()
    with monkeypatch.context() as patch, pytest.raises(Unreachable, match="No space left"):
        patch.setattr(MlflowClient, "log_model_artifacts", no_space)
        ship(recorded, MlflowStore(layout.store()))
    for _ in range(2):
        assert ship(recorded, MlflowStore(layout.store())).done
        (recorded.path / "delivery.json").unlink()  # as if the follower was killed before it remembered
    (logged,) = project.runs()
    assert len(project.client.get_metric_history(logged.info.run_id, "train/loss")) == 1
    assert len(logged.outputs.model_outputs) == len(logged.inputs.dataset_inputs) == 1


def test_a_store_that_cannot_be_is_said_and_harmless(project: Project):
    project.environment["MLFLOW_TRACKING_URI"] = "nonsense://nowhere"
    code, out, error = project.run("-c", DRIVER, "1", "0", "end")
    assert code == 0 and "trained" in out
    assert "MLflow: nonsense://nowhere" in error and "4 events are kept" in error


@pytest.fixture(scope="module")
def logged_model(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Project, str]:
    """A project whose run has a model, and the model's address."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(empty_database, folder)
    project = fill(folder)
    project.train().communicate(timeout=60)
    return project, f"models:/{project.runs()[0].outputs.model_outputs[0].model_id}"


def test_the_model_works_away_from_the_project(logged_model: tuple[Project, str], tmp_path: Path):
    project, address = logged_model
    images = np.random.default_rng(3).integers(0, 256, (5, 28, 28, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    code = f"""
import numpy as np, mlflow
mlflow.set_tracking_uri({project.uri!r})
model = mlflow.pyfunc.load_model({address!r})
np.save("probabilities.npy", model.predict(np.load("images.npy")))
import fedpipe; assert "artifacts" in fedpipe.__file__, fedpipe.__file__
try:
    model.predict(np.zeros((1, 28, 28, 1)))
except mlflow.MlflowException:
    print("float images refused")
"""
    environment = {key: value for key, value in project.environment.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert "float images refused" in done.stdout
    probabilities = np.load(tmp_path / "probabilities.npy")

    from fedpipe.networks.weights import load_weights

    model, weights = load_weights(project.path / "models/weights.safetensors")
    expected = model.predictor(weights)(images)
    assert probabilities.dtype == np.float32 and np.array_equal(probabilities, expected)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_mlflow_models_predict(logged_model: tuple[Project, str], tmp_path: Path):
    project, address = logged_model
    images = np.zeros((2, 28, 28, 1), np.uint8)
    (tmp_path / "input.json").write_text(json.dumps({"inputs": images.tolist()}))
    environment = {key: value for key, value in project.environment.items() if key != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = project.uri
    command = ["-m", "mlflow", "models", "predict", "-m", address, "--env-manager", "local", "-i", "input.json"]
    done = subprocess.run(
        [sys.executable, *command, "-o", "output.json"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    predictions = np.array(json.loads((tmp_path / "output.json").read_text())["predictions"])
    assert predictions.shape == (2, 10) and np.allclose(predictions.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_ui_listens_on_loopback_only(project: Project):
    port = free_port()
    with running(project.start("-m", "operations.ui", "--port", str(port))) as ui:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/health"), 60)
        family = [psutil.Process(ui.pid), *psutil.Process(ui.pid).children(recursive=True)]
        listening = {c.laddr.ip for p in family for c in p.net_connections() if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}


def test_what_is_worth_another_try():
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    collision = "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name"  # two runs at the same moment
    for message, code, expected in (
        ("(sqlite3.OperationalError) database is locked", "TEMPORARILY_UNAVAILABLE", Unreachable),
        (collision, "BAD_REQUEST", Unreachable),
        ('(psycopg2.errors.UniqueViolation) duplicate key "dataset_pk"', "BAD_REQUEST", Unreachable),
        ("Invalid value for parameter", "INVALID_PARAMETER_VALUE", PipelineError),
    ):
        with pytest.raises(expected), translated():
            raise MlflowException(message, error_code=ErrorCode.Value(code))
    with pytest.raises(Unreachable, match=r"^API request to http://host/api failed$"), translated():
        raise MlflowException("API request to http://me:secret@host/api failed", error_code=ErrorCode.INTERNAL_ERROR)
    with pytest.raises(Unreachable, match=r"^No space left on device$"), translated():
        no_space()


def test_a_follower_imports_mlflow_before_it_has_anything_to_log(project: Project):
    """Else an evaluation, which says everything at its end, would wait for that; and no store is made before."""
    (project.path / "mlflow.db").unlink(missing_ok=True)
    code = (
        "from fedpipe.tracking.__main__ import _loaded; _loaded(); import sys; print('mlflow.entities' in sys.modules)"
    )
    project.environment["MLFLOW_TRACKING_URI"] = project.uri
    assert project.run("-c", code) == (0, "True\n", "") and not (project.path / "mlflow.db").exists()
