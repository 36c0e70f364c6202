"""The process of a stage: it ends with the DVC that started it, and says one sentence when it is stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

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


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after ``dvc init``."""
    folder = tmp_path_factory.mktemp("initialised")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(initialised: Path, tmp_path: Path) -> Path:
    """A DVC project with that stage."""
    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    (tmp_path / "nap").mkdir()
    (tmp_path / "nap/__init__.py").write_text(NAP)
    (tmp_path / "nap/__main__.py").write_text(WORK)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
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


@pytest.mark.parametrize(
    ("shell", "how"),
    [
        ("/bin/sh", signal.SIGKILL),
        ("waiting", signal.SIGKILL),
        ("waiting", signal.SIGTERM),
        pytest.param("/bin/sh", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("/bin/bash", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("/bin/bash", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stage_ends_with_dvc(project: Path, waiting_shell: str, shell: str, how: signal.Signals) -> None:
    dvc, stage = started_by_dvc(project, waiting_shell if shell == "waiting" else shell)
    dvc.send_signal(how)
    dvc.wait(10)
    gone, _ = psutil.wait_procs([stage], timeout=5)
    assert gone == [stage]


def test_a_stage_ends_with_the_shell_between_it_and_dvc(project: Path, waiting_shell: str) -> None:
    """Else DVC takes the stage for failed, and the stage continues."""
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


def by_hand(folder: Path, stage: str, *before: str, **variables: str) -> tuple[int, list[str]]:
    """Exit code and lines of standard error of a stage, started by the command ``before`` if there is one."""
    done = subprocess.run(
        [*(before or [sys.executable]), "-m", f"stages.{stage}"],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr.splitlines()


def test_dvc_starts_stages_without_the_users_settings_of_python() -> None:
    """PYTHONSAFEPATH hides the package ``stages``, PYTHONPATH puts another NumPy before the lock's."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {name: stage["cmd"] for name, stage in stages.items()} == {
        name: f"python -E -m stages.{name}" for name in ("download", "partition", "train", "evaluate")
    }


@pytest.mark.parametrize("stage", ["download", "partition", "train", "evaluate"])
def test_another_numpy_on_the_path_is_refused(tmp_path: Path, stage: str) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/__init__.py").touch()
    code, lines = by_hand(tmp_path, stage)
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"error: Python would import numpy from {tmp_path}, not from its own environment")


def test_a_python_without_the_libraries_of_the_lock_is_refused(tmp_path: Path) -> None:
    """Such as the system's, where `dvc repro` runs without the environment's folder on the PATH."""
    python = Path(sys.executable).resolve()
    code, lines = by_hand(tmp_path, "partition", str(python))
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"error: the Python {python} has ") and "libraries.lock: use `make repro`" in lines[0]


# Answers clone3 as container runtimes did that did not know it, then becomes the command.
WITHOUT_CLONE3 = """
import ctypes, os, struct, sys
EPERM, CLONE3, NO_NEW_PRIVS, SECCOMP, FILTER = 1, 435, 38, 22, 2
code = [(0x20, 0, 0, 0), (0x15, 0, 1, CLONE3), (0x06, 0, 0, 0x50000 | EPERM), (0x06, 0, 0, 0x7FFF0000)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
program = Program(len(code), b"".join(struct.pack("HBBI", *line) for line in code))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
if libc.prctl(SECCOMP, FILTER, ctypes.byref(program), 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("stage", ["download", "partition", "train", "evaluate"])
def test_a_system_that_allows_no_thread_is_not_called_ctrl_c(tmp_path: Path, stage: str) -> None:
    code, lines = by_hand(tmp_path, stage, sys.executable, "-c", WITHOUT_CLONE3)
    if code == 77:
        pytest.skip("this system lets nobody install a seccomp filter")
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith("error: the system lets this process start no thread") and "clone3" in lines[0]


def test_an_experiment_in_a_shallow_clone_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/shallow").touch()
    warning = "warning: in a shallow clone DVC loses the results of experiments: run `git fetch --unshallow` first"
    assert by_hand(tmp_path, "partition", DVC_EXP_NAME="x")[1][0] == warning
    assert warning not in by_hand(tmp_path, "partition")[1]


def test_the_c_library_computes_without_the_users_tunables(project: Path) -> None:
    """It reads them before Python starts: exp, log and pow of other instruction sets, and so other draws."""
    code = (
        "from fedpipe import stage_process\nstage_process.begin()\n"
        "import numpy\nprint(numpy.random.default_rng(1).dirichlet([0.5] * 10, 5000).tobytes().hex())\n"
    )
    draws = set()
    for tunables in ("", "glibc.cpu.hwcaps=-AVX2,-FMA", "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable"):
        variables = {"GLIBC_TUNABLES": tunables} if tunables else {}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=project, env=environment(**variables), capture_output=True, check=True
        )
        draws.add(done.stdout)
    assert len(draws) == 1


@pytest.mark.parametrize(
    ("stage", "loading"),
    [
        ("download", "fedpipe.pinning"),
        ("partition", "numpy"),
        pytest.param("partition", "pandas", marks=pytest.mark.slow),  # SIGTERM comes there below
        pytest.param("train", "pandas", marks=pytest.mark.slow),
        ("train", "fedpipe.tracking.run_events"),
        pytest.param("evaluate", "numpy.core", marks=pytest.mark.slow),
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
