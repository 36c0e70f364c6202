"""What a table reads of a cell's training: files for programs, whatever the log says."""

from pathlib import Path

import pytest

import layout
from fedpipe.errors import DivergedError, PipelineError
from fedpipe.failure import Failure
from fedpipe.runtime.hooks import PhaseTable
from fedpipe.runtime.phases import PHASES
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound
from operations.table.definition import Cell
from operations.table.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    made = Workspace(Cell("rates", {"rate": "0.1"}, 1, {}))
    made.folder.mkdir()
    made.log.write_text("error: round 1: the updates of all 3 clients were not finite\nERROR: failed to reproduce\n")
    return made


def test_a_training_has_diverged_if_its_error_is_of_that_class(workspace: Workspace) -> None:
    assert not workspace.has_diverged() and workspace.failure() == f"ERROR: failed to reproduce (see {workspace.log})"
    Failure.write(PipelineError("the updates of all 3 clients were not finite"), workspace.folder / layout.FAILURE)
    assert not workspace.has_diverged()
    Failure.write(DivergedError("in other words"), workspace.folder / layout.FAILURE)
    assert workspace.has_diverged() and workspace.failure() == "in other words"
    row, _, _ = workspace.result("0" * 40)
    assert row.outcome == "diverged" and row.seconds is None


def test_seconds_are_those_of_every_round_the_last_time_it_ran(workspace: Workspace) -> None:
    assert workspace._seconds(2) is None
    table = PhaseTable(workspace.folder / "logs/train/phases.csv", resumed=False)
    for number, seconds in ((1, 1.25), (2, 9.0), (2, 2.5)):  # the second was run again after a stop
        record = RoundRecord(number, 2.0, 0.5, 3, 0, 100, 1, 1)
        table.on_round_end(CompletedRound(record, seconds, dict.fromkeys(PHASES, 0.0)))
    assert workspace._seconds(2) == 3.8 and workspace._seconds(3) is None
