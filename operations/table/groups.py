"""A table's cells grouped as its results show them: seeds summed up, and of a grid the best value."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from operations.table.definition import Cell, Definition, Measure, Table
from operations.table.records import Row


@dataclass(frozen=True)
class Figure:
    """A measure over the seeds. A run that did not reach its target counts as infinitely many rounds."""

    values: tuple[float, ...]
    rounds: tuple[int, ...]  # that the runs had

    @property
    def mean(self) -> float:
        """Over the seeds; NaN if there are none."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None for a single seed or where a run did not reach its target."""
        finite = len(self.values) > 1 and all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if finite else None


@dataclass(frozen=True)
class Group:
    """Cells that differ in seed and grid only, and the best value of the grid.

    Only values that ran with as many seeds as any other of the grid are compared.
    """

    labels: tuple[str, ...]  # of the axes that are not of the grid
    best: tuple[str, ...]  # of the axes of the grid; empty if there are none, or nothing ran
    cells: tuple[Cell, ...]  # those of the best value that ran
    rows: tuple[Row, ...]  # theirs
    tried: int  # values of the grid that were compared
    values: int  # that the grid has

    @property
    def seconds(self) -> float | None:
        """The mean over the runs; None if it is not known of one."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return statistics.fmean(known) if known and len(known) == len(self.rows) else None

    def figure(self, measure: Measure) -> Figure:
        """The measure over the seeds."""
        return _figure(self.rows, measure)


def groups(table: Table, rows: Mapping[str, Row]) -> list[Group]:
    """The groups of a table in order."""
    definition = table.definition
    by_labels: dict[tuple[str, ...], dict[tuple[str, ...], list[Cell]]] = {}
    for cell in table.cells:
        by_value = by_labels.setdefault(cell.group(definition.group_axes), {})
        by_value.setdefault(cell.group(definition.grid), []).append(cell)
    return [_group(definition, labels, by_value, rows) for labels, by_value in by_labels.items()]


def _group(
    definition: Definition,
    labels: tuple[str, ...],
    by_value: Mapping[tuple[str, ...], Sequence[Cell]],
    rows: Mapping[str, Row],
) -> Group:
    ran = {value: [cell for cell in cells if cell.name in rows] for value, cells in by_value.items()}
    most = max(map(len, ran.values()))
    if not most:
        return Group(labels, (), (), (), 0, len(by_value))
    compared = {value: [rows[cell.name] for cell in cells] for value, cells in ran.items() if len(cells) == most}
    selection = selected_on([row for rows_of_value in compared.values() for row in rows_of_value])
    # The first one of equals.
    best = min(compared, key=lambda value: _rank(compared[value], definition.measure, selection))
    return Group(labels, best, tuple(ran[best]), tuple(compared[best]), len(compared), len(by_value))


def selected_on(rows: Iterable[Row]) -> Literal["validation", "test"]:
    """The samples on which the best value of a grid is selected: the validation samples, if all runs have them."""
    finished = [row for row in rows if row.outcome == "finished"]
    has_validation = bool(finished) and all(row.validation_accuracy is not None for row in finished)
    return "validation" if has_validation else "test"


def _rank(rows: Sequence[Row], measure: Measure, selection: Literal["validation", "test"]) -> tuple[float, float]:
    """Smaller is better; where no run reached the target, the highest accuracy is."""
    accuracy = -_figure(rows, f"{selection}_accuracy").mean
    mean = _figure(rows, measure.replace("test", selection)).mean
    return (mean if measure == "rounds_to_target" else -mean, accuracy)


def _figure(rows: Sequence[Row], measure: str) -> Figure:
    missing = math.inf if measure == "rounds_to_target" else 0.0  # a training that diverged knows nothing
    values = (getattr(row, measure) for row in rows)
    return Figure(
        tuple(missing if value is None else float(value) for value in values), tuple(row.rounds or 0 for row in rows)
    )
