"""A retraining with a time limit: the stage that runs is asked to end, and a training without progress is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations.retrain import limit, state
from operations.retrain.limit import Limit
from tests import ROOT

STAGE = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path("checkpoint").write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("started").touch()
time.sleep(60)
"""


class Started(Limit):
    """A limit that comes when the stage runs."""

    def has_come(self) -> bool:
        return Path("started").exists()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    Path("stages").mkdir()
    Path("stages/__init__.py").touch()
    Path("stages/nap.py").write_text(STAGE)
    Path("dvc.yaml").write_text(f"stages: {{nap: {{cmd: '{sys.executable} -m stages.nap', outs: [out]}}}}\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    return tmp_path


def test_the_stage_may_save_before_it_ends(project: Path) -> None:
    calls = []
    with Path("lock").open("w") as lock:
        assert limit.repro(Started(1), lock.fileno(), lambda: calls.append("ran")) is False
    assert Path("checkpoint").read_text() == "saved" and calls == ["ran"]
    Path("stages/nap.py").write_text("raise SystemExit('broken')")
    with Path("lock").open() as lock, pytest.raises(PipelineError, match="`dvc repro` failed"):
        limit.repro(Limit(None), lock.fileno(), lambda: None)


def test_the_same_checkpoint_twice_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state.begin()
    checkpoints = Path("logs/train/checkpoints")
    checkpoints.mkdir(parents=True)
    for number in (4, 9):
        (checkpoints / f"round-{number:06}.safetensors").touch()
        state.require_progress()
        state.begin()
    with pytest.raises(PipelineError, match=r"with the same state \(round-000009\.safetensors\): raise the limit"):
        state.require_progress()
    state.end()
    assert not state.is_unfinished()


@pytest.mark.parametrize(("option", "variable", "minutes"), [(2.5, "7", 2.5), (None, "7", 7), (None, "", None)])
def test_the_limit_is_the_options_or_the_environments(
    monkeypatch: pytest.MonkeyPatch, option: float | None, variable: str, minutes: float | None
) -> None:
    monkeypatch.setenv("FEDPIPE_MINUTES", variable)
    assert Limit.of(option).minutes == minutes
    assert not Limit.of(option).has_come() and Limit(1e-9).has_come()


@pytest.mark.parametrize("wrong", ["soon", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("FEDPIPE_MINUTES", wrong)
    with pytest.raises(PipelineError, match=f"is '{wrong}': should be minutes, such as 150"):
        Limit.of(None)
