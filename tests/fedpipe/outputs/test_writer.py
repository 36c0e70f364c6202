"""Two processes never write the outputs of one stage in one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.outputs.writer import only_writer
from tests import ROOT

LOCK = Path("logs/train/lock")
HOLD = """
from pathlib import Path
from fedpipe.outputs.writer import only_writer
with only_writer("train", Path("logs/train/lock")): print("held", flush=True); input()
"""


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_and_told_who_the_first_is(holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(PipelineError, match=rf"another process \(pid {holder.pid}\) runs the train stage"),
        only_writer("train", LOCK, patience=0.2),
    ):
        pytest.fail("two writers")
    with only_writer("evaluate", Path("logs/evaluate/lock"), patience=0):
        pass


def test_a_writer_that_is_killed_frees_the_lock(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    with only_writer("train", LOCK):
        pass


def test_a_folder_without_room_for_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logs").write_text("a file")
    with (
        pytest.raises(PipelineError, match="logs/train/lock, which keeps two writers apart, "),
        only_writer("train", LOCK),
    ):
        pass
