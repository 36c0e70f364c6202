"""What is said of a training while it runs."""

import io
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tqdm import tqdm

from fedpipe.runtime import progress
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound

RECORD = RoundRecord(1, 2.0, 0.5, 10, 0, 100, 1, 1, test_loss=2.1, test_accuracy=0.4)
ROUND = CompletedRound(RECORD, 0.5, {})


class Terminal(io.StringIO):
    """Standard error of a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def test_one_line_per_round_and_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(tmp_path / "rounds.log", 3) as report:
        report.on_round_end(ROUND)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("round 1/3: train loss 2.0000, accuracy train 0.5000, test 0.4000, ")
    assert line.endswith(" s left")
    logged = (tmp_path / "rounds.log").read_text()
    assert "round 1/3: train loss 2.0000, accuracy train 0.5000, test 0.4000, 10 clients, 0.50 s\n" in logged
    assert not [h for h in logging.getLogger("fedpipe.train").handlers if isinstance(h, logging.FileHandler)]


@pytest.mark.parametrize("others", [{}, {"validation_accuracy": 0.45}, {"epsilon": 1.234}])
@pytest.mark.parametrize(("number", "rounds"), [(1, 10), (1000, 1000), (99_999, 100_000)])
def test_a_line_has_the_accuracies_and_fits_a_terminal(others: dict[str, Any], number: int, rounds: int) -> None:
    line = replace(RECORD, round=number, others=others).short_line(rounds, 86_400.0)
    assert len(line) <= 80
    assert "accuracy train 0.5000, " in line and "test 0.4000" in line
    assert "validation_accuracy" not in others or ", validation 0.4500, " in line
    assert "epsilon" not in others or ", epsilon 1.23" in line


def test_a_line_says_how_many_updates_were_left_out() -> None:
    assert "3 left out as not finite" in replace(RECORD, non_finite=3).short_line(1000, 86_400.0)


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


def test_on_a_terminal_a_bar_is_below_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.time, "perf_counter", iter(range(0, 1000, 8)).__next__)
    report = progress.Progress(tmp_path / "rounds.log", 1000, 998)
    with report:
        report.on_clients(999, 10_000, 9_300)
        bar = str(report._bar)
        report.on_round_end(CompletedRound(replace(RECORD, round=999), 0.5, {}))
    assert bar.startswith("round 998/1000 |") and "9,300 of 10,000 clients" in bar and len(bar) <= 80
    lines = [line.rpartition("\r")[2] for line in terminal.getvalue().split("\n")]
    assert sum(line.startswith("round 999/1000: train loss") for line in lines) == 1


def test_a_notebook_gets_lines_and_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(tmp_path / "rounds.log", 3) as report:
        report.on_clients(1, 900, 300)
        report.on_round_end(ROUND)
    written = capsys.readouterr().err
    assert "\r" not in written and written.count("\n") == 1


def test_with_its_widgets_a_notebook_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which tqdm's own class takes care; here that of a terminal stands in its place."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    widget = ModuleType("tqdm.notebook")
    widget.tqdm = tqdm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm.notebook", widget)
    monkeypatch.setattr(progress, "find_spec", lambda name: name == "ipywidgets")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for shown in (True, False):
        with progress.Progress(tmp_path / "rounds.log", 3, shown=shown) as report:
            report.on_round_end(ROUND)
            assert report._bar.disable is not shown and report._bar.n == (1 if shown else 0)
