"""The weekly job as a script for cron, systemd or another CI: in its order, and the state kept whatever happens."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

ORDER = ["retrain", "publish", "keep-state FOLDER=STATE", "champion ARGS=--if-any", "tell"]


@pytest.fixture
def weekly(tmp_path: Path) -> Path:
    """The script in a folder of its own, and a `make` that notes its calls and fails for the target in FAILING."""
    script = tmp_path / "project/operations/retrain/weekly.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "operations/retrain/weekly.sh", script)
    (tmp_path / "make").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ "$1" != "$FAILING" ] || exit 2\n')
    (tmp_path / "make").chmod(0o755)
    return script


def run(weekly: Path, failing: str = "", state: str = "") -> tuple[int, list[str]]:
    folder = weekly.parents[3]
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FAILING": failing}
    done = subprocess.run([weekly], env=environment | {"FEDPIPE_STATE": state}, capture_output=True, text=True)
    calls = (folder / "calls").read_text().replace(state or "STATE", "STATE").splitlines()
    (folder / "calls").unlink()
    return done.returncode, calls


def test_the_steps_in_their_order(weekly: Path, tmp_path: Path) -> None:
    state = tmp_path / "a state"
    assert run(weekly, state=str(state)) == (0, ORDER)
    state.mkdir()
    (state / "manifest.json").touch()
    assert run(weekly, state=str(state)) == (0, ["restore-state FOLDER=STATE", *ORDER])
    assert run(weekly) == (0, ["retrain", "publish", "champion ARGS=--if-any", "tell"])


@pytest.mark.parametrize(
    ("failing", "calls"),
    [
        (
            "retrain",
            ["restore-state FOLDER=STATE", "retrain", "keep-state FOLDER=STATE", "champion ARGS=--if-any", "tell"],
        ),
        ("publish", ["restore-state FOLDER=STATE", *ORDER]),
        ("restore-state", ["restore-state FOLDER=STATE", "tell"]),
    ],
)
def test_a_step_that_fails(weekly: Path, tmp_path: Path, failing: str, calls: list[str]) -> None:
    """The exit code tells it; the state is kept unless it could not be restored, since that would be another one."""
    (tmp_path / "manifest.json").touch()
    assert run(weekly, failing, str(tmp_path)) == (2, calls)
