"""What is said of a training while it runs."""

import logging
from pathlib import Path

import pytest

from fedpipe.runtime import progress
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound

RECORD = RoundRecord(1, 2.0, 0.5, 10, 0, 100, 1, 1)
ROUND = CompletedRound(RECORD, 0.5, {})


def test_one_line_per_round_and_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(tmp_path / "rounds.log", 3) as report:
        report.on_round_end(ROUND)
    said = capsys.readouterr().err
    assert (
        said.startswith("round 1/3: train loss 2.0000, accuracy train 0.5000, 10 clients, 0.50 s, ")
        and " s left\n" in said
    )
    assert "round 1/3" in (tmp_path / "rounds.log").read_text()
    assert not [h for h in logging.getLogger("fedpipe.train").handlers if isinstance(h, logging.FileHandler)]


def test_a_long_round_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0, 62.0, 90.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    with progress.Progress(tmp_path / "rounds.log", 3) as report:  # 0 s
        for ended in (100, 310, 400, 620, 900):  # after 10, 31, 40, 62 and 90 s
            report.on_clients(1, 900, ended)
    assert capsys.readouterr().err.splitlines() == [
        "round 1/3: 310 of 900 clients, 10.0 clients per second, 59 s left in this round",
        "round 1/3: 620 of 900 clients, 10.0 clients per second, 28 s left in this round",
    ]


def test_on_a_terminal_the_bar_shows_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(tmp_path / "rounds.log", 3) as report:
        report.on_clients(1, 900, 300)
        assert "300 of 900 clients" in report._bar.postfix
