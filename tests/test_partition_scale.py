"""The benchmark of the partition stage runs, on a partition small enough for a test, and sees what a command takes."""

import sys
from pathlib import Path

import pytest

from benchmarks.partition_scale import Case, measure, watch


@pytest.mark.slow
def test_a_small_case(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(raw)
    monkeypatch.chdir(tmp_path)
    figures = measure(Case(clients=50, repeats=2, scheme="iid", bounds={"stage": 0, "with_dvc": 600}))
    assert figures["missed"] == ["stage over 0 s"]
    assert figures["bytes"] > 120_000 * 785 and figures["files"] < 20
    assert all(took["cpu_seconds"] > 0 and took["peak_mib"] > 20 for took in figures["commands"].values())


def test_memory_of_children_counts(tmp_path: Path) -> None:
    hold = "b = bytearray(200 * 2**20); import time; time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    assert 200 < watch([sys.executable, "-c", code], tmp_path)["peak_mib"] < 300
