"""Several people, several experiments: DVC remotes in a shared folder and in S3, and ``dvc exp`` with its queue.

One clone has run a small pipeline; the others have what it pushed, or are experiments on it.
"""

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from ruamel.yaml import YAML

SMALL = {
    "partition": {"scheme": "iid", "clients": 20, "leave_out": 59_600},
    "train": {"rounds": 1},
}
RATE, BATCH = "train.client_optimizer.learning_rate", "evaluate.batch_size"
NAME = "baseline_cnn iid 20 clients 1 rounds"


def run(folder: Path, command: str, **more: str) -> str:
    """Runs a command in a shell, in the environment of a user who has activated .venv; returns all that it said."""
    dropped = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "FEDPIPE_TRACKING")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=inherited | {"PATH": path, "FEDPIPE_TRACKING_WAIT": "200"} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    return done.stdout if done.returncode == 0 else pytest.fail(f"{command}: {done.stdout[-5000:]}")


pytestmark = pytest.mark.slow  # DVC's remotes and its queue take minutes


@pytest.fixture(scope="module")
def ran(clone: Callable[[str], Path], raw: Path) -> Path:
    """A clone in which the small pipeline has run, all of it committed."""
    folder = clone("team")
    params = YAML().load(folder / "params.yaml")
    for section, values in SMALL.items():
        params[section] |= values
    YAML().dump(params, folder / "params.yaml")
    run(folder, "git config user.name test && git config user.email test@example.com")
    run(folder, "dvc repro", FEDPIPE_MNIST_SOURCE=str(raw))
    run(folder, "git add -A && git commit -qm ran")
    return folder


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of an S3-compatible server on loopback that has the bucket ``team``."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    credentials = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **credentials).create_bucket(Bucket="team")
    yield address
    server.stop()


def check_handed_over(ran: Path, tmp_path: Path, credentials: str) -> None:
    """Pushes from ``ran``, pulls in another clone, and runs nothing there."""
    run(ran, "git add .dvc/config && git commit -qm remote && dvc push")
    other = tmp_path / "other"
    run(tmp_path, f"git clone -q {ran} {other}")
    nowhere = str(tmp_path / "nothing here")  # a download would be one thing too many
    run(other, f"{credentials} dvc pull", FEDPIPE_MNIST_SOURCE=nowhere)
    output = run(other, "dvc repro", FEDPIPE_MNIST_SOURCE=nowhere)
    assert "Running stage" not in output and "Data and pipelines are up to date" in output
    assert run(other, "git status --porcelain") == ""
    for name in ("models/weights.safetensors", "data/clients/manifest.json", "plots/confusion.png"):
        assert (other / name).read_bytes() == (ran / name).read_bytes()
    assert "same bits" in run(other, "python -m operations.provenance verify")


def test_a_shared_folder_hands_everything_over(ran: Path, tmp_path: Path) -> None:
    run(ran, f"dvc remote add -f -d shared {tmp_path / 'store'}")
    check_handed_over(ran, tmp_path, "")


def test_s3_hands_everything_over(ran: Path, tmp_path: Path, s3: str) -> None:
    credentials = (
        "dvc remote modify --local bucket access_key_id a && dvc remote modify --local bucket secret_access_key b &&"
    )
    run(ran, f"dvc remote add -f -d bucket s3://team/fedpipe && dvc remote modify bucket endpointurl {s3}")
    run(ran, f"{credentials} true")
    check_handed_over(ran, tmp_path, credentials)
    assert "secret" not in run(ran, "git log -p -- .dvc")


def runs(folder: Path) -> dict[str, dict[str, str]]:
    """Status and tags of each run in the folder's store, by its name."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        named = store.execute("select run_uuid, name, status from runs").fetchall()
        return {
            name: dict(store.execute("select key, value from tags where run_uuid = ?", [run_id])) | {"status": status}
            for run_id, name, status in named
        }


def shown(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(io.StringIO(run(folder, "dvc exp show --csv")))
    return table.set_index(table["Experiment"].fillna("workspace"))


@pytest.fixture(scope="module")
def queued(ran: Path, raw: Path) -> Iterator[Path]:
    """The clone after two experiments that the queue ran side by side, into a store that was not there."""
    (ran / "mlflow.db").unlink()
    source = {"FEDPIPE_MNIST_SOURCE": str(raw)}
    try:
        for name, rate in (("slow", 0.05), ("fast", 0.2)):
            run(ran, f"dvc exp run --queue -n {name} -S {RATE}={rate}", **source)
        run(ran, "dvc exp run --run-all --jobs 2", **source)
        yield ran
    finally:
        run(ran, "dvc queue stop --kill")
        workers = [p for p in psutil.process_iter(["cmdline"]) if is_worker(p, ran)]
        _, alive = psutil.wait_procs(workers, timeout=60)
        for worker in alive:
            worker.kill()
        assert not alive, "the queue's workers did not end"


def is_worker(process: psutil.Process, folder: Path) -> bool:
    try:
        return "queue-worker" in (process.info["cmdline"] or []) and Path(process.cwd()).is_relative_to(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_queued_experiments_are_runs_in_the_projects_store(queued: Path) -> None:
    by_name = runs(queued)
    assert set(by_name) == {f"slow: {NAME}", f"fast: {NAME}"}
    for name, tags in by_name.items():
        assert tags["status"] == "FINISHED" and tags["fedpipe.experiment"] == name.partition(":")[0]
    assert list((queued / "logs/tracking/pending").iterdir()) == []
    assert not [path for path in (queued / ".dvc/tmp/exps").iterdir() if path.name.startswith("tmp")]
    with sqlite3.connect(queued / "mlflow.db") as store:
        evaluated = store.execute("select count(*) from latest_metrics where key = 'test/accuracy'").fetchone()
    assert evaluated == (2,)


def test_exp_show_and_diff_have_params_and_metrics(queued: Path) -> None:
    table = shown(queued)
    assert table.loc["slow", RATE] == 0.05 and table.loc["fast", RATE] == 0.2
    for column in ("metrics/training.json:train.accuracy", "metrics/evaluation.json:test.accuracy"):
        assert table.loc[["slow", "fast", "workspace"], column].notna().all()
    difference = json.loads(run(queued, "dvc exp diff slow fast --json"))
    assert difference["params"]["params.yaml"][RATE] == {"old": 0.05, "new": 0.2, "diff": pytest.approx(0.15)}
    assert "test.loss" in difference["metrics"]["metrics/evaluation.json"]


def test_a_temporary_workspace_hands_its_run_on_before_it_goes(queued: Path, raw: Path) -> None:
    output = run(queued, f"dvc exp run --temp -n half -S {BATCH}=500", FEDPIPE_MNIST_SOURCE=str(raw))
    assert re.findall(r"Running stage '(\w+)'", output) == ["evaluate"]
    half = runs(queued)[f"half: {NAME}"]  # its training was the project's own, but it is a run of its own
    assert half["fedpipe.experiment"] == "half" and half["fedpipe.restored"] == "true"


def test_an_applied_experiment_has_nothing_left_to_run(queued: Path) -> None:
    committed = (queued / "dvc.lock").read_bytes()
    try:
        run(queued, "dvc exp apply fast")
        assert YAML().load(queued / "params.yaml")["train"]["client_optimizer"]["learning_rate"] == 0.2
        assert "Data and pipelines are up to date" in run(queued, "dvc repro")
        assert (queued / "dvc.lock").read_bytes() != committed
    finally:
        run(queued, "git checkout -q -- . && dvc checkout")


def test_an_unreachable_server_keeps_an_experiments_journal_in_the_project(queued: Path, raw: Path) -> None:
    more = {
        "FEDPIPE_MNIST_SOURCE": str(raw),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "FEDPIPE_TRACKING_WAIT": "20",
    }
    output = run(queued, f"dvc exp run --temp -n lonely -S {BATCH}=250", **more)
    assert f"are kept in {queued / 'logs/tracking/pending'}" in output
    assert len(list((queued / "logs/tracking/pending").iterdir())) == 1
    assert f"half: {NAME}" not in run(queued, "python -m operations.sync")
    assert runs(queued)[f"lonely: {NAME}"]["status"] == "FINISHED"
