"""The folder in which a cell runs: a clone of the project in .dvc/tmp, kept until the cell has ended.

A workspace of ``dvc exp run --temp`` is removed when its process ends, and a training's checkpoints with it. This one
is not, so a cell that was stopped or killed resumes. It shares the project's DVC cache, so data are fetched and
partitioned once. Its experiment and its MLflow run are the project's.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import pandas as pd

import layout
from fedpipe.atomic import write_text
from fedpipe.errors import DivergedError, PipelineError
from fedpipe.failure import Failure
from fedpipe.provenance import collect
from fedpipe.system.children import Child, start_child
from fedpipe.system.locks import try_lock
from layout import FAILURE, stage_logs
from operations import commands
from operations.table.definition import Cell
from operations.table.records import Row, machine_key

FOLDER = Path(".dvc/tmp/tables")
# What a cell's result depends on, besides the table's file. A cell runs on the last commit's.
CODE = (*layout.CODE, "params.yaml", "data/pool", "models/initial.json")


def require_committed_code() -> str:
    """The last commit, which cells are run on.

    Raises:
      PipelineError: Code or params differ from it.
    """
    commands.require_repository()
    changed = commands.uncommitted(CODE, CODE)
    if changed:
        raise PipelineError(
            f"{', '.join(changed)} changed since the last commit, and the cells of a table run on that commit: commit "
            "it first, or set it back"
        )
    return commands.git("rev-parse", "HEAD").strip()


class Workspace:
    """The folder of one cell; no other process uses it until `close`."""

    def __init__(self, cell: Cell, kind: str = "cells") -> None:
        """Takes the folder.

        Raises:
          PipelineError: Another process has it.
        """
        self._cell = cell
        self.project = Path.cwd().resolve()
        self.folder = self.project / FOLDER / kind / cell.table / cell.name
        self.log = self.folder.with_name(f"{cell.name}.log")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock: IO[bytes] = self.folder.with_name(f"{cell.name}.lock").open("wb")
        if not try_lock(self._lock):
            self._lock.close()
            raise PipelineError(
                f"cell {cell.name} of table {cell.table} is run by another process: wait until it has ended"
            )

    def prepare(self, commit: str, params: str) -> bool:
        """Makes the folder, or takes the one that is there.

        Returns:
          Whether an earlier process has begun with the cell.
        """
        begun = (self.folder / ".git").is_dir() and (self.folder / ".dvc/config.local").is_file()
        if not begun:
            shutil.rmtree(self.folder, ignore_errors=True)
            commands.git("clone", "--quiet", "--no-checkout", "--no-tags", str(self.project), str(self.folder))
        if not begun or self._git("rev-parse", "HEAD").strip() != commit:
            if begun:
                self._git("fetch", "--quiet", "origin", commit)
            self._git("checkout", "--quiet", "--force", "--detach", commit)
        if not begun:
            self._configure()
        if not (self.folder / "params.yaml").is_file() or self._params() != params:
            write_text(self.folder / "params.yaml", params)
        return begun

    def start(self, *arguments: str, tracking: bool = True, cpus: set[int] | None = None) -> Child:
        """Starts ``dvc`` with ``arguments`` in the folder; it ends with this process."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_STAGE")}
        # As DVC tells the stages of an experiment in a temporary workspace: whose it is, and its name.
        environment |= {"DVC_ROOT": str(self.project), "DVC_EXP_NAME": self.experiment}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        environment.pop("PYTHONPATH", None)
        if not tracking:
            environment["FEDPIPE_TRACKING"] = "off"
        command = [sys.executable, "-m", "dvc", *arguments]
        (self.folder / FAILURE).unlink(missing_ok=True)  # DVC may fail before a stage begins
        process = start_child(command, self.log, folder=self.folder, environment=environment)
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        return process

    @property
    def experiment(self) -> str:
        """The name of the DVC experiment."""
        return f"{self._cell.table}-{self._cell.name}"

    def last_line(self) -> str:
        """What the training said last, such as a round's figures."""
        lines = [line for line in self._log_text().splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def failure(self) -> str:
        """Why `start`'s command failed, for people: the stage's error, or else the last line of the log."""
        failure = Failure.read(self.folder / FAILURE)
        return f"{self.last_line()} (see {self.log})" if failure is None else failure.message

    def has_diverged(self) -> bool:
        """Whether the training failed because updates or weights were not finite, which is a result."""
        failure = Failure.read(self.folder / FAILURE)
        return failure is not None and failure.is_a(DivergedError)

    def weights_sha256(self) -> str:
        """The SHA-256 of the weights that the stage has written, or of the clients' models without a global one."""
        training = self._json("metrics/training.json")
        return str(training["weights_sha256" if training.get("global_model", True) else "personal_sha256"])

    def result(self, commit: str) -> tuple[Row, pd.DataFrame, dict[str, Any]]:
        """Result of the cell: its row, its curve, and the machine."""
        machine = collect()
        known: dict[str, Any] = {"cell": self._cell.name, "seed": self._cell.seed, "commit": commit}
        known["machine"] = machine_key(machine)
        curve = pd.DataFrame(columns=["round", "test_loss", "test_accuracy"])
        if self.has_diverged():
            names = {each.name for each in fields(Row)} - {"outcome", "weights_sha256", *known}
            nothing: dict[str, Any] = dict.fromkeys(names)
            return Row(outcome="diverged", weights_sha256="", **nothing, **known), curve, machine
        training = self._json("metrics/training.json")
        rounds = pd.read_csv(self.folder / "metrics/rounds.csv")
        evaluation = self._json("metrics/evaluation.json")
        row = Row(
            outcome="finished",
            rounds=training["rounds"],
            rounds_to_target=training.get("rounds_to_target"),
            test_accuracy=evaluation["test"]["accuracy"],
            best_test_accuracy=training.get("best_test_accuracy"),
            validation_accuracy=rounds["validation_accuracy"].iloc[-1] if "validation_accuracy" in rounds else None,
            best_validation_accuracy=training.get("best_validation_accuracy"),
            held_out_accuracy=evaluation.get("clients", {}).get("held_out", {}).get("mean"),
            seconds=self._seconds(training["rounds"]),
            weights_sha256=training["weights_sha256"],
            **known,
        )
        if "test_accuracy" not in rounds:
            return row, curve, machine
        return row, rounds.loc[rounds["test_accuracy"].notna(), list(curve.columns)], machine

    def save_experiment(self) -> None:
        """Makes the folder's state a DVC experiment of the project."""
        self._dvc("exp", "save", "--quiet", "--force", "--name", self.experiment)
        refs = self._git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        (ref,) = [each for each in refs if each.rpartition("/")[2] == self.experiment]
        commands.git("fetch", "--quiet", "--no-tags", str(self.folder), f"+{ref}:{ref}")

    def remove(self) -> None:
        """Deletes the folder, since the cell has ended. Its log stays."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Lets others use the folder."""
        self._lock.close()

    def _configure(self) -> None:
        local = self.project / ".dvc/config.local"
        cache = commands.dvc("cache", "dir").strip()
        if local.is_file():
            shutil.copy(local, self.folder / ".dvc/config.local")
        identity = ["git", "config", "user.email"]
        if subprocess.run(identity, cwd=self.folder, capture_output=True, check=False).returncode:
            self._git("config", "user.name", "fedpipe")
            self._git("config", "user.email", "fedpipe@localhost")
        self._dvc("cache", "dir", "--local", cache)

    def _params(self) -> str:
        return (self.folder / "params.yaml").read_text(encoding="utf-8")

    def _log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def _json(self, path: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / path).read_text(encoding="utf-8")))

    def _seconds(self, rounds: int) -> float | None:
        """The sum over the rounds; none if this folder did not compute all of them."""
        log = self.folder / stage_logs("train") / "phases.csv"
        if not log.is_file():
            return None
        seconds = pd.read_csv(log).drop_duplicates("round", keep="last")["seconds"]  # a round may have been run again
        return round(float(seconds.sum()), 1) if len(seconds) == rounds else None

    def _git(self, *arguments: str) -> str:
        return commands.git("-C", str(self.folder), *arguments)

    def _dvc(self, *arguments: str) -> str:
        return commands.dvc("--cd", str(self.folder), *arguments)


def base_params(commit: str) -> str:
    """The params.yaml that cells are made from."""
    return commands.git("show", f"{commit}:params.yaml")
