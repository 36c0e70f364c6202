"""A training that is stopped or killed anywhere resumes, to the same bits and in the same MLflow run.

Whatever dies, `dvc repro` is simply called again, at once. The training is SCAFFOLD, whose clients keep something from
round to round, on a part of the clients, with Adam as the server's optimizer and the best weights kept.
"""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stages.test_pipeline import environment

CHECKPOINTS = Path("logs/train/checkpoints")
OUTPUTS = (
    "models/weights.safetensors",
    "models/best.safetensors",
    "models/personal.safetensors",
    "metrics/rounds.csv",
    "metrics/training.json",
)
# What differs between two undisturbed runs, too, or says that a run was resumed.
OF_THIS_RUN = ("seconds", "total_seconds", "system/", "fedpipe.journal", "fedpipe.resumed", "mlflow.", "environment.")


def configure(folder: Path, rounds: int) -> None:
    """Edits params.yaml: 30 of 40 clients per round, so small that a round takes less than a second."""
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    server = text.index("  server_optimizer:")
    text = text[:server] + text[server:].replace("name: sgd", "name: adam", 1).replace("rate: 1.0", "rate: 0.01", 1)
    for old, new in {
        "  scheme: contiguous": "  scheme: iid",
        "  clients: 600": "  clients: 40",
        "  leave_out: 0": "  leave_out: 59000",
        "  algorithm: fed_avg": "  algorithm: scaffold",
        "  rounds: 10\n": f"  rounds: {rounds}\n",
        "  clients_per_round: all": "  clients_per_round: 30",
        "  evaluate_every: 1": "  evaluate_every: 5",
        "  validation: 0": "  validation: 100",
        "  keep_best: false": "  keep_best: true",
        "    seconds: 10 ": "    seconds: 0 ",
    }.items():
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


class Run:
    """A `dvc repro` under way, and the processes that it started."""

    def __init__(self, folder: Path, raw: Path, log: Path) -> None:
        self.folder, self._log = folder, log
        with log.open("w") as output:
            self._dvc = psutil.Popen(
                ["dvc", "repro"], cwd=folder, env=environment(raw), stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def find(self, who: str) -> psutil.Process | None:
        """`dvc`, ``driver``, ``worker`` or ``follower``, if it is there."""
        words = {"driver": "stages.train", "worker": "worker_binary", "follower": "fedpipe.tracking"}
        if who == "dvc":
            return self._dvc
        try:
            for process in self._dvc.children(recursive=True):
                command = process.cmdline()
                if any(words[who] in word for word in command) and not any("launch.py" in word for word in command):
                    return process
        except psutil.NoSuchProcess:
            pass
        return None

    def kill(self, who: str, number: int) -> bool:
        """Whether ``who`` was there to get the signal."""
        process = self.find(who)
        if process is None or not process.is_running():
            return False
        process.send_signal(number)
        return True

    def wait_for(self, condition: Callable[[], Any]) -> bool:
        """Waits until ``condition`` holds, at most until the run ends; returns whether it holds."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self._dvc.poll() is None:
            if condition():
                return True
            time.sleep(0.001)
        return bool(condition())

    def rounds(self) -> int:
        """How many rounds it has said to have done."""
        return self.output.count("\nround ")

    def end(self) -> int:
        return self._dvc.wait(timeout=300)


@pytest.fixture(scope="module")
def prepare(clone: Callable[[str], Path], raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a project of so many rounds in which all is ready for training."""
    ready = clone("ready")
    configure(ready, 1)
    (ready / "dvc.lock").unlink()
    subprocess.run(["dvc", "repro", "partition"], cwd=ready, env=environment(raw), check=True)

    def make(rounds: int) -> Path:
        folder = tmp_path_factory.mktemp(f"rounds-{rounds}") / "fedpipe"
        shutil.copytree(ready, folder, symlinks=True)
        params = folder / "params.yaml"
        params.write_text(params.read_text(encoding="utf-8").replace("  rounds: 1\n", f"  rounds: {rounds}\n", 1))
        return folder

    return make


def mlflow_runs(folder: Path) -> list[dict[str, Any]]:
    """What MLflow knows of each run, less `OF_THIS_RUN`."""
    with sqlite3.connect(folder / "mlflow.db") as store:

        def rows(columns: str, table: str, run: str) -> list[tuple]:
            selected = store.execute(f"select {columns} from {table} where run_uuid = ?", (run,)).fetchall()
            return sorted(row for row in selected if not row[0].startswith(OF_THIS_RUN))

        return [
            {
                "name": name,
                "status": status,
                "metrics": rows("key, step, value", "metrics", run),
                "params": rows("key, value", "params", run),
                "tags": [row for row in rows("key, value", "tags", run) if "git" not in row[0]],
            }
            for run, name, status in store.execute("select run_uuid, name, status from runs order by start_time")
        ]


def same(first: Path, other: Path) -> None:
    """Compares all that a training leaves."""
    for name in OUTPUTS:
        assert (first / name).read_bytes() == (other / name).read_bytes(), name
    assert (first / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    assert mlflow_runs(first) == mlflow_runs(other)
    assert [run["status"] for run in mlflow_runs(first)] == ["FINISHED"]
    assert not (first / CHECKPOINTS).exists() and not (first / "logs/train/clients").exists()


def undisturbed(folder: Path, raw: Path, tmp_path: Path) -> Path:
    run = Run(folder, raw, tmp_path / "undisturbed.log")
    assert run.end() == 0, run.output
    return folder


@pytest.mark.slow
def test_killed_driver_and_killed_dvc(prepare: Callable[[int], Path], raw: Path, tmp_path: Path) -> None:
    whole = undisturbed(prepare(9), raw, tmp_path)
    folder = prepare(9)
    for attempt, who in enumerate(("driver", "dvc")):
        run = Run(folder, raw, tmp_path / f"{attempt}.log")
        assert run.wait_for(lambda run=run: run.rounds() >= 3 and any((folder / CHECKPOINTS).glob("*.safetensors")))
        assert run.kill(who, signal.SIGKILL)
        assert run.end() != 0
    run = Run(folder, raw, tmp_path / "last.log")
    assert run.end() == 0, run.output
    assert "train: resumes at round" in run.output
    same(folder, whole)


@pytest.mark.slow
def test_twenty_kills(prepare: Callable[[int], Path], raw: Path, tmp_path: Path) -> None:
    rounds, wanted = 150, 24
    whole = undisturbed(prepare(rounds), raw, tmp_path)
    folder = prepare(rounds)
    draw = random.Random(2024)
    kills: list[str] = []
    for attempt in range(4 * wanted):
        run = Run(folder, raw, tmp_path / f"{attempt}.log")
        for _ in range(2):  # a killed follower ends nothing
            if len(kills) >= wanted:
                break
            who = ("driver", "worker", "follower", "dvc")[len(kills) % 4]
            moment = draw.choice(["start", "round", "round", "save"])
            more, delay = run.rounds() + draw.randint(1, 3), {"start": 6.0, "round": 0.3, "save": 0.0}[moment]
            if moment == "start":
                run.wait_for(lambda run=run, who=who: run.find(who))
            else:
                run.wait_for(lambda run=run, more=more: run.rounds() >= more)
            if moment == "save":  # the next one, of which there are several a second
                until = time.monotonic() + 2
                while not any((folder / CHECKPOINTS).glob("*.partial")) and time.monotonic() < until:
                    pass
            time.sleep(draw.uniform(0, delay))
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            if run.kill(who, signal.SIGKILL if who in ("worker", "follower", "dvc") else number):
                kills.append(f"{who} {moment}")
            if who != "follower":
                break
        code = run.end()
        if code == 0:
            break
    assert code == 0, run.output
    print(json.dumps(kills))
    assert len(kills) >= 20, kills
    same(folder, whole)
