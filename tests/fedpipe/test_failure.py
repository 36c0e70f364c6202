"""A stage that fails leaves its error to programs, by its class."""

from pathlib import Path

import pytest

from fedpipe import stage_process
from fedpipe.errors import DivergedError, NothingTrainedError, PipelineError
from fedpipe.failure import Failure


def raising(error: BaseException) -> None:
    raise error


@pytest.fixture
def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stage_process, "restore_for_dvc", lambda: None)
    return tmp_path / "logs/failure.json"


def test_an_error_is_in_the_file_until_a_stage_begins(failure: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="error: all of it"):
        stage_process.run_stage(lambda: raising(DivergedError("all of it")), failure)
    read = Failure.read(failure)
    assert read == Failure(kind="DivergedError", message="all of it")
    assert read.is_a(DivergedError) and not read.is_a(NothingTrainedError)
    stage_process.run_stage(lambda: None, failure)
    assert Failure.read(failure) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_a_stop_and_a_defect_are_no_failures(failure: Path, error: BaseException) -> None:
    failure.parent.mkdir()
    failure.write_text("of an earlier stage")
    with pytest.raises((SystemExit, ZeroDivisionError)):
        stage_process.run_stage(lambda: raising(error), failure)
    assert Failure.read(failure) is None


def test_a_file_of_something_else_is_named(failure: Path) -> None:
    failure.parent.mkdir()
    failure.write_text("{}")
    with pytest.raises(PipelineError, match=r"failure.json is no failure of a stage: remove it"):
        Failure.read(failure)
