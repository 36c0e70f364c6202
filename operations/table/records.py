"""The results of a table's cells, in git: one row per cell and seed, and its params.

    docs/results/TABLE/runs.csv      one row per cell and seed, in the table's order
    docs/results/TABLE/rounds.csv    test loss and test accuracy of each round of each cell
    docs/results/TABLE/params.json   the params of each cell
    docs/results/machines.json       the machines and libraries that the rows were made with

The row is written last, so a cell that has one has the rest too.
"""

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fedpipe.atomic import atomic_file, write_text
from fedpipe.errors import PipelineError
from fedpipe.system.locks import locked_file
from operations.table.definition import Table

RESULTS = Path("docs/results")
MACHINES = RESULTS / "machines.json"
_LOCK = Path(".dvc/tmp/tables/records.lock")
_CURVE = ("round", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Row:
    """Result of a cell. Missing figures are None, such as those of a training that diverged."""

    cell: str
    seed: int
    outcome: Literal["finished", "diverged"]
    rounds: int | None
    rounds_to_target: int | None
    test_accuracy: float | None
    best_test_accuracy: float | None  # of the round with the highest accuracy on what `train.selection` names
    validation_accuracy: float | None  # of the last round; this and the next are None without validation samples
    best_validation_accuracy: float | None
    seconds: float | None  # that the rounds took; none if the training came from DVC's cache
    weights_sha256: str
    commit: str
    machine: str  # its key in machines.json
    held_out_accuracy: float | None = None  # mean of the clients that never trained


def read(table: str) -> dict[str, Row]:
    """The rows of a table by cell.

    Raises:
      PipelineError: Its file is damaged.
    """
    path = RESULTS / table / "runs.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row.cell: row for row in map(_parsed, csv.DictReader(file))}
    except (KeyError, ValueError) as error:
        raise PipelineError(f"{path} is not as `make table` writes it ({error}): `git checkout {path}`") from None


def read_params(table: str) -> dict[str, dict[str, Any]]:
    """What each cell of a table was run with."""
    path = RESULTS / table / "params.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def read_machines() -> dict[str, Any]:
    """The machines, each as `fedpipe.provenance.collect` describes it."""
    return dict(json.loads(MACHINES.read_text(encoding="utf-8"))) if MACHINES.is_file() else {}


def read_curves(table: str) -> pd.DataFrame:
    """Columns cell, round, test_loss, test_accuracy; empty if there are none."""
    path = RESULTS / table / "rounds.csv"
    return pd.read_csv(path, dtype={"cell": str}) if path.is_file() else pd.DataFrame(columns=["cell", *_CURVE])


def finished(table: Table) -> dict[str, Row]:
    """The rows of cells that need not run again: those that were run with the params that they have now.

    A key that params.yaml did not have then, or has no more, makes no difference.
    """
    rows, made_with = read(table.name), read_params(table.name)
    return {
        name: row
        for name, row in rows.items()
        if name in table.params and not changed(made_with.get(name, {}), table.params[name])
    }


def changed(before: Any, now: Any, key: str = "") -> list[str]:
    """The dotted keys that both have, with different values."""
    if isinstance(before, dict) and isinstance(now, dict):
        both = [name for name in before if name in now]
        return [k for name in both for k in changed(before[name], now[name], f"{key}.{name}" if key else name)]
    return [] if before == now else [key]


def add(table: Table, row: Row, curve: pd.DataFrame, machine: dict[str, Any]) -> None:
    """Writes a row and what belongs to it, in place of an earlier one of the same cell."""
    folder = RESULTS / table.name
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(_LOCK, math.inf):  # another `make table` may write at the same moment
        machines = read_machines() | {row.machine: machine}
        write_text(MACHINES, json.dumps(machines, indent=2, sort_keys=True) + "\n")
        params = read_params(table.name) | {row.cell: table.params[row.cell]}
        order = [cell.name for cell in table.cells]
        lines = [f"{json.dumps(name)}: {json.dumps(params[name])}" for name in order if name in params]
        write_text(folder / "params.json", "{\n" + ",\n".join(lines) + "\n}\n")
        _write_curves(table.name, order, row.cell, curve)
        rows = read(table.name) | {row.cell: row}
        _write_rows(table, [rows[name] for name in order if name in rows])


def machine_key(machine: dict[str, Any]) -> str:
    """Names a machine by its hardware."""
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]


def _write_curves(table: str, order: list[str], cell: str, curve: pd.DataFrame) -> None:
    others = read_curves(table)
    parts = [others[others["cell"] == name] if name != cell else curve.assign(cell=cell) for name in order]
    whole = pd.concat([part for part in parts if len(part)] or [others])
    with atomic_file(RESULTS / table / "rounds.csv") as partial:
        whole[["cell", *_CURVE]].to_csv(partial, index=False)


def _write_rows(table: Table, rows: Sequence[Row]) -> None:
    labels = {cell.name: cell.labels for cell in table.cells}
    with atomic_file(RESULTS / table.name / "runs.csv") as partial, partial.open("w", encoding="utf-8") as file:
        columns = ["cell", *table.definition.axes, *(each.name for each in fields(Row) if each.name != "cell")]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), **labels[row.cell]} for row in rows)


def _number(text: str) -> float | None:
    return float(text) if text else None


def _parsed(row: dict[str, str]) -> Row:
    outcome = row["outcome"]
    if outcome not in ("finished", "diverged"):
        raise ValueError(f"an outcome is {outcome!r}")
    return Row(
        cell=row["cell"],
        seed=int(row["seed"]),
        outcome="finished" if outcome == "finished" else "diverged",
        rounds=int(row["rounds"]) if row["rounds"] else None,
        rounds_to_target=int(row["rounds_to_target"]) if row["rounds_to_target"] else None,
        test_accuracy=_number(row["test_accuracy"]),
        best_test_accuracy=_number(row["best_test_accuracy"]),
        validation_accuracy=_number(row.get("validation_accuracy", "")),
        best_validation_accuracy=_number(row.get("best_validation_accuracy", "")),
        seconds=_number(row["seconds"]),
        weights_sha256=row["weights_sha256"],
        commit=row["commit"],
        machine=row["machine"],
        held_out_accuracy=_number(row.get("held_out_accuracy") or ""),
    )
