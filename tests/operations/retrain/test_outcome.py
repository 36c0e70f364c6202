"""reports/outcome.json, which other commands read."""

import datetime
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations.retrain.outcome import Outcome, iso_week, run_url


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "reports/outcome.json"
    outcome = Outcome(dataset="mnist", status="kept", reason="worse", held={"week-1": "inverted"})
    outcome.write(path)
    assert Outcome.read(path) == outcome


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    with pytest.raises(PipelineError, match="is missing: `make retrain`"):
        Outcome.read(path)
    path.write_text('{"dataset": "mnist", "status": "won", "reason": ""}')
    with pytest.raises(PipelineError, match="'status'"):
        Outcome.read(path)


def test_the_week_is_the_iso_week_and_the_run_is_githubs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert iso_week(datetime.date(2027, 1, 1)) == "2026-W53"
    for name, value in (("SERVER_URL", "https://github.com"), ("REPOSITORY", "a/b"), ("RUN_ID", "7")):
        monkeypatch.setenv(f"GITHUB_{name}", value)
    assert run_url() == "https://github.com/a/b/actions/runs/7"
    monkeypatch.delenv("GITHUB_RUN_ID")
    assert run_url() is None
