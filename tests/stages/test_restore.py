"""DVC restores what was computed once, and a stage that does not succeed leaves the old outputs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from tests import RECIPE, ROOT
from tests.small_pipeline import SMALL, edit, environment, outputs, repro, stages_run

pytestmark = pytest.mark.slow

NOTHING = Path("/nowhere")  # where no data set can be fetched from
OTHER = {"rounds: 2": "rounds: 1"}
BACK = {"rounds: 1": "rounds: 2"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs ``command`` where no data set can be fetched from."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(NOTHING) | {"FEDPIPE_TRACKING": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def git(folder: Path, *arguments: str) -> str:
    done = run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(folder: Path) -> list[str]:
    """The stages that are not up to date."""
    with chdir(folder), Repo() as repo:
        return list(repo.status())


def restored(folder: Path) -> dict[str, bytes]:
    """Runs ``dvc repro``, in which no stage may run, and returns the outputs."""
    assert stages_run(repro(folder, NOTHING, FEDPIPE_TRACKING="off")) == []
    assert status(folder) == []
    return outputs(folder)


@pytest.fixture(scope="module")
def first(clone: Callable[[str], Path], raw: Path) -> Path:
    """A clone with two commits of results, each of its own params; the second is checked out."""
    folder = clone("restore")
    fewer = {"  clients: 600": "  clients: 100", "  clients_per_round: all": "  clients_per_round: all"}
    edit(folder, SMALL | fewer)
    for changes in (OTHER, BACK):
        edit(folder, changes)
        repro(folder, raw, FEDPIPE_TRACKING="off")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "results")
    return folder


@pytest.fixture
def project(first: Path, tmp_path: Path) -> Path:
    """A copy of it, with results and cache."""
    return Path(shutil.copytree(first, tmp_path / "project", symlinks=True))


def test_a_param_set_back_computes_nothing(project: Path) -> None:
    before = outputs(project)
    edit(project, OTHER)
    other = restored(project)
    assert other["models/weights.safetensors"] != before["models/weights.safetensors"]
    assert other["metrics/rounds.csv"] != before["metrics/rounds.csv"]
    edit(project, BACK)
    assert restored(project) == before


def test_another_commit_computes_nothing(project: Path) -> None:
    before = outputs(project)
    git(project, "checkout", "-q", "HEAD~1")
    other = restored(project)
    assert other["models/weights.safetensors"] != before["models/weights.safetensors"]
    assert git(project, "status", "--porcelain") == ""
    git(project, "checkout", "-q", "-")
    assert restored(project) == before
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    "lost",
    [
        ["data/clients/shards.safetensors", "metrics/rounds.csv", "plots/confusion.png"],
        ["data/raw", "plots/partition.csv", "metrics/training.json"],
        ["data/clients", "models/weights.safetensors"],
        ["metrics/partition.json", "metrics/clients.csv"],
    ],
)
def test_removed_outputs_compute_nothing(project: Path, lost: list[str]) -> None:
    before, paths = outputs(project), [project / name for name in lost]
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert restored(project) == before
    assert all(path.exists() for path in paths)


def test_a_fresh_clone_with_a_full_cache_computes_nothing(first: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(first), str(clone))
    shutil.copytree(first / ".dvc/cache", clone / ".dvc/cache")
    assert restored(clone) == outputs(first)


def test_a_remote_serves_another_machine(first: Path, project: Path, tmp_path: Path) -> None:
    """What a commit holds, and what none does: the clone's dvc.lock never names the other params."""
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    for folder in (project, clone):
        assert run(folder, "dvc", "remote", "add", "-d", "shared", str(remote)).returncode == 0
    before = outputs(project)
    edit(project, OTHER)
    other = restored(project)
    for changes in (BACK, OTHER):
        edit(project, changes)
        restored(project)
        pushed = run(project, "dvc", "push", "--run-cache")
        assert pushed.returncode == 0, pushed.stderr

    pulled = run(clone, "dvc", "pull", "--run-cache")
    assert pulled.returncode == 0, pulled.stderr
    assert restored(clone) == before
    (clone / "models/weights.safetensors").unlink()
    (clone / "metrics/clients.csv").unlink()
    assert restored(clone) == before
    edit(clone, OTHER)
    done = run(clone, "dvc", "repro", "--pull")
    assert done.returncode == 0, done.stderr
    assert stages_run(done.stdout) == [] and outputs(clone) == other


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Starts ``command`` with a training ahead of it that does not end."""
    edit(folder, {"rounds: 2": "rounds: 100000"})
    (folder / "logs/train/rounds.log").unlink(missing_ok=True)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(NOTHING) | {"FEDPIPE_TRACKING": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def test_a_stage_that_is_killed_gives_its_outputs_back(project: Path) -> None:
    """With ``make repro``, which calls our command; the stage itself cannot."""
    before = outputs(project)
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "dvc repro ||" in line)
    making = start(project, "sh", "-c", line.strip().removeprefix("@").replace("$$", "$").replace(".venv/bin/", ""))
    train = wait_for_training(making, project)
    assert not (project / "models/weights.safetensors").exists()
    train.kill()
    output, _ = making.communicate(timeout=30)
    assert making.returncode not in (0, None)
    assert "restored the outputs that DVC had deleted: " in output and "metrics/rounds.csv" in output
    assert outputs(project) == before


def test_ctrl_c_gives_the_outputs_back(project: Path) -> None:
    before = outputs(project)
    dvc = start(project, "dvc", "repro")
    wait_for_training(dvc, project)
    os.killpg(dvc.pid, signal.SIGINT)  # as a terminal does
    output, _ = dvc.communicate(timeout=30)
    assert "stopped by Ctrl-C; nothing half-written was left" in output and "Traceback" not in output
    assert outputs(project) == before


def test_a_killed_dvc_leaves_no_training_that_overwrites_results(project: Path) -> None:
    before = outputs(project)
    dvc = start(project, "dvc", "repro")
    train = wait_for_training(dvc, project)
    dvc.kill()
    gone, _ = psutil.wait_procs([train], timeout=5)
    assert gone == [train]
    dvc.communicate(timeout=10)
    edit(project, {"rounds: 100000": "rounds: 2"})
    assert restored(project) == before


def test_a_second_training_is_refused(project: Path) -> None:
    before = outputs(project)
    training = start(project, sys.executable, "-m", "stages.train")
    try:
        wait_for_training(training, project)
        edit(project, {"rounds: 100000": "rounds: 3"})
        done = run(project, "dvc", "repro")
    finally:
        training.kill()
        training.communicate()
    assert done.returncode != 0
    assert f"error: another process (pid {training.pid}) runs the train stage in this folder" in done.stderr
    assert outputs(project) == before


@pytest.mark.parametrize(
    "module",
    ["tensorflow.python.ops", "tensorflow_federated.python.core.impl.types"],
)
def test_ctrl_c_while_training_loads_is_one_sentence(project: Path, module: str) -> None:
    before = outputs(project)
    training = start(project, sys.executable, "-X", "importtime", "-m", "stages.train")
    assert training.stdout
    for line in training.stdout:
        if line.split("|")[-1].strip().startswith(module):
            training.send_signal(signal.SIGINT)
            break
    lines = [line for line in training.communicate(timeout=30)[0].splitlines() if not line.startswith("import time:")]
    assert training.returncode == 130 and lines[-1] == "stopped by Ctrl-C; nothing half-written was left"
    assert "Traceback" not in "".join(lines)
    assert outputs(project) == before


@pytest.mark.parametrize("way", ["folder", "disk"])
def test_results_that_cannot_be_written_are_said_before_the_first_round(project: Path, way: str) -> None:
    before = outputs(project)
    (project / "logs/train/rounds.log").unlink()
    command = [sys.executable, "-m", "stages.train"]
    if way == "folder":
        (project / "models").rename(project / "elsewhere")
        (project / "models").write_text("a file in the folder's place")
    else:  # a limit on the size of files is refused as a full disk is
        command = ["prlimit", "--fsize=600000", *command]
    done = run(project, *command)
    if way == "folder":
        (project / "models").unlink()
        (project / "elsewhere").rename(project / "models")
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: models/weights.safetensors cannot be written: ")
    assert not (project / "logs/train/rounds.log").exists() and outputs(project) == before


def wait_for_training(started: subprocess.Popen[str], project: Path) -> psutil.Process:
    """The process of the train stage below ``started``, once it has done a round."""
    log, deadline = project / "logs/train/rounds.log", time.monotonic() + 60
    while not (log.is_file() and log.read_text()):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    below = psutil.Process(started.pid).children(recursive=True)
    return next((child for child in reversed(below) if child.cmdline()[-2:-1] == ["-m"]), psutil.Process(started.pid))


def test_a_refusal_of_a_clone_without_cache_leaves_the_tables_that_git_has(first: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(first), str(clone))
    shutil.copytree(first / "data/raw", clone / "data/raw")
    edit(clone, {"  clients: 100": "  clients: 5000"})
    assert run(clone, "dvc", "repro", "partition").returncode != 0
    assert git(clone, "status", "--porcelain").split() == ["M", "params.yaml"]


def test_a_changed_download_stage_fetches_nothing_again(project: Path) -> None:
    edit(project, {"read_timeout: 30": "read_timeout: 40"})
    done = run(project, "dvc", "repro", "download")
    assert done.returncode == 0, done.stderr
    assert "Running stage 'download'" in done.stdout
    assert "all 4 MNIST files are in data/raw with the pinned SHA-256" in done.stderr


# What must not make a stage run, and what commands must not change


def test_a_developers_tool_in_the_lock_reruns_nothing(project: Path) -> None:
    lock = project / "requirements.lock"
    text = lock.read_text()
    lock.write_text(text.replace("\npytest==", "\npytest==99.", 1))
    assert lock.read_text() != text
    assert status(project) == []
    libraries = project / "libraries.lock"
    libraries.write_text(libraries.read_text().replace("\nnumpy==", "\nnumpy==99.", 1))
    assert "train" in status(project)


def test_params_are_written_as_dvc_writes_them(tmp_path: Path) -> None:
    path = Path(shutil.copy(RECIPE / "params.yaml", tmp_path))
    apply_overrides(path, ["evaluate.batch_size=1000"])  # what -S does
    assert path.read_text() == (RECIPE / "params.yaml").read_text()


def test_an_experiment_touches_the_line_that_it_sets(project: Path) -> None:
    before = (project / "params.yaml").read_text().splitlines()
    done = run(project, "dvc", "exp", "run", "-S", "evaluate.batch_size=500", "evaluate")
    assert done.returncode == 0, done.stderr
    after = (project / "params.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1 and changed[0].startswith("  batch_size: 500 ")


def test_plots_leave_nothing_to_commit(project: Path) -> None:
    done = run(project, "dvc", "plots", "diff", "HEAD~1", "HEAD")
    assert done.returncode == 0, done.stderr
    assert (project / "dvc_plots/index.html").is_file()
    assert git(project, "add", "-A", "--dry-run") == ""
