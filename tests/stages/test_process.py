"""The process of a stage: it ends with the DVC that started it, and says one sentence when it is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import ROOT

# A stage that says where it is, and then works for a minute.
NAP = """
from fedpipe import stage_process
stage_process.begin()
"""
WORK = """
import os, time
from pathlib import Path
Path("pid").write_text(str(os.getpid()))
time.sleep(60)
"""
PIPELINE = "stages:\n  nap:\n    cmd: python -m nap\n    deps: [nap]\n    outs: [out]\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project with that stage."""
    (tmp_path / "nap").mkdir()
    (tmp_path / "nap/__init__.py").write_text(NAP)
    (tmp_path / "nap/__main__.py").write_text(WORK)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def environment(**variables: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | variables


def started_by_dvc(project: Path, shell: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """DVC, and the stage that it runs with ``shell``."""
    dvc = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=project, env=environment(SHELL=shell))
    pid, deadline = project / "pid", time.monotonic() + 30
    while not (pid.is_file() and pid.read_text()):
        assert time.monotonic() < deadline and dvc.poll() is None
        time.sleep(0.05)
    return dvc, psutil.Process(int(pid.read_text()))


@pytest.fixture
def waiting_shell(tmp_path: Path) -> str:
    """A shell that stays between DVC and the stage, as fish does."""
    path = tmp_path / "waiting"
    path.write_text('#!/bin/sh\n/bin/sh "$@"\nexit $?\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash", "waiting"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_with_dvc(project: Path, waiting_shell: str, shell: str, how: signal.Signals) -> None:
    dvc, stage = started_by_dvc(project, waiting_shell if shell == "waiting" else shell)
    dvc.send_signal(how)
    dvc.wait(10)
    gone, _ = psutil.wait_procs([stage], timeout=5)
    assert gone == [stage]


def test_a_stage_ends_with_the_shell_between_it_and_dvc(project: Path, waiting_shell: str) -> None:
    """Else DVC takes the stage for failed, and the stage goes on."""
    dvc, stage = started_by_dvc(project, waiting_shell)
    stage.parent().kill()
    gone, _ = psutil.wait_procs([stage], timeout=5)
    assert gone == [stage]
    assert dvc.wait(10) != 0


def test_a_stage_whose_dvc_has_ended_does_not_begin(project: Path) -> None:
    """What it finds as its parent then is whoever adopts orphans, in another process group."""
    done = subprocess.run(
        [sys.executable, "-m", "nap"],
        cwd=project,
        env=environment(DVC_STAGE="nap", DVC_ROOT=str(project)),
        capture_output=True,
        text=True,
        process_group=0,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the DVC process that started this stage has ended, so the stage does not begin\n"


def test_a_stage_without_dvc_does_not_end_with_its_parent(project: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-m', 'nap'], stdout=2).pid)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    stage, pid = psutil.Process(int(done.stdout)), project / "pid"
    deadline = time.monotonic() + 30
    while not pid.is_file():
        assert time.monotonic() < deadline and stage.is_running()
        time.sleep(0.05)
    stage.kill()


@pytest.mark.parametrize(
    ("stage", "loading"),
    [
        ("download", "fedpipe.pinning"),
        ("partition", "numpy"),
        ("partition", "pandas"),
        ("train", "pandas"),
        ("train", "fedpipe.tracking.run_events"),
        ("evaluate", "numpy.core"),
        ("evaluate", "pandas"),
    ],
)
def test_ctrl_c_while_a_stage_loads_is_one_sentence(tmp_path: Path, stage: str, loading: str) -> None:
    assert signalled(tmp_path, stage, loading, signal.SIGINT) == (130, "Ctrl-C")


def test_sigterm_while_a_stage_loads_is_one_sentence(tmp_path: Path) -> None:
    assert signalled(tmp_path, "partition", "pandas", signal.SIGTERM) == (143, "SIGTERM")


def signalled(folder: Path, stage: str, loading: str, number: signal.Signals) -> tuple[int, str]:
    """Sends a signal while ``stage`` loads a module; returns the exit code and what it says that it was stopped by."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", f"stages.{stage}"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if line.split("|")[-1].strip() == loading:
            process.send_signal(number)
            break
    rest = [line for line in process.communicate(timeout=30)[1].splitlines() if not line.startswith("import time:")]
    assert len(rest) == 2 and rest[1].endswith("; nothing half-written was left")
    return process.returncode, rest[1].removeprefix("stopped by ").split(";")[0]
