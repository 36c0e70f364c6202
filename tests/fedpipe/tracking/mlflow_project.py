"""For tests of MLflow: a project's folder in which trainings run as processes, and patience."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
from safetensors.numpy import save

from tests import RECIPE, ROOT
from tests.recorded import record

SPEC = {"model": "baseline_cnn", "image_shape": [28, 28, 1], "classes": 10}
# A training without TensorFlow: argument "rounds seconds ending".
DRIVER = """
import os, sys, time
from pathlib import Path
import layout
from fedpipe.tracking import journal
from fedpipe.tracking.pipeline import TRAINED_BY
pipeline = layout.pipeline_files()
params = pipeline.recorded_params(*TRAINED_BY)
started = {"tags": pipeline.tags(), "name": "baseline_cnn contiguous 600 clients 3 rounds", "params": params,
           "environment": {"cpu": {"model": "a CPU"}},
           "dataset": {"name": "mnist", "digest": "ab" * 32, "source": "data/clients"}}
rounds, seconds, ending = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
weights = Path("models/weights.safetensors")
with journal.record_training(started, layout.outbox()) as run:
    for number in range(1, rounds + 1):
        run.log_round(number, {"train_loss": 1 / number, "train_accuracy": number / rounds})
        print("round", number, flush=True)
        time.sleep(seconds)
    if ending == "fail":
        raise ValueError("diverged")
    run.log_results(weights, [Path("metrics/rounds.csv")], [Path("plots/a.png")], {"total_seconds": 2.5})
print("trained", flush=True)
"""
EVALUATE = """
from pathlib import Path
import layout
from fedpipe.tracking import journal
told = layout.outbox(), layout.pipeline_files()
weights = Path("models/weights.safetensors")
journal.record_evaluation(*told, weights, {"test": {"accuracy": 0.79}}, pictures=[Path("plots/a.png")])
"""


class Project:
    """A folder with a pipeline's outputs, in which drivers run."""

    def __init__(self, path: Path, uri: str | None = None) -> None:
        self.path, self.uri = path, uri or f"sqlite:///{quote(str(path / 'mlflow.db'), safe='/ #=')}"
        self.environment = {k: v for k, v in os.environ.items() if k not in ("FEDPIPE_TRACKING", "MLFLOW_TRACKING_URI")}
        self.environment |= {"PYTHONPATH": str(ROOT), "FEDPIPE_TRACKING_WAIT": "60"}
        if uri:
            self.environment["MLFLOW_TRACKING_URI"] = uri

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a test can send a Ctrl-C to the whole group, as a terminal does
        )

    def run(self, *command: str) -> tuple[int, str, str]:
        process = self.start(*command)
        out, error = process.communicate(timeout=100)
        return process.returncode, out, error

    def train(self, rounds: int = 3, seconds: float = 0.0, ending: str = "end") -> subprocess.Popen[str]:
        return self.start("-c", DRIVER, str(rounds), str(seconds), ending)

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self) -> list:
        experiment = self.client.get_experiment_by_name("fedpipe-mnist")
        return list(self.client.search_runs([experiment.experiment_id])) if experiment else []

    def history(self, run, metric: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, metric))

    def artifacts(self, run, folder: str | None = None) -> list[str]:
        return sorted(item.path for item in self.client.list_artifacts(run.info.run_id, folder))

    def pending(self) -> list[Path]:
        return list((self.path / "logs/tracking/pending").iterdir())


def fill(folder: Path, uri: str | None = None) -> Project:
    rng = np.random.default_rng(1)
    tensors = {
        "conv/kernel": rng.normal(0, 0.3, (3, 3, 1, 32)).astype(np.float32),
        "conv/bias": np.zeros(32, np.float32),
        "dense/kernel": rng.normal(0, 0.1, (13 * 13 * 32, 10)).astype(np.float32),
        "dense/bias": np.zeros(10, np.float32),
    }
    files = {
        "params.yaml": (RECIPE / "params.yaml").read_bytes(),
        "models/weights.safetensors": save(tensors, {"fedpipe": json.dumps(SPEC)}),
        "metrics/rounds.csv": b"round,train_loss,train_accuracy\n1,2.0,0.5\n2,1.5,0.7\n",
        "metrics/training.json": b'{"train": {"loss": 1.5}, "rounds": 2}',
        "data/clients/manifest.json": json.dumps({"dataset": "mnist", "digest": "ab" * 32, "clients": 600}).encode(),
        "plots/a.png": b"not really",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    trained = [Path("models/weights.safetensors"), Path("metrics/rounds.csv"), Path("metrics/training.json")]
    record(folder, {"download": [], "partition": [], "train": trained})
    return Project(folder, uri)


def eventually(condition: Callable[[], object], seconds: float) -> float:
    """Waits until ``condition`` holds and returns how long that took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - begin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends ``process`` and its children with the block."""
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):  # the test ended it
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:
                member.terminate()
            psutil.wait_procs(family, timeout=10)
        process.communicate(timeout=10)
