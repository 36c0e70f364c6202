"""Disks that are full, a clock that jumps, two `dvc repro` at once: one clear error or a wait, and nothing is lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.small_pipeline import SMALL, edit, environment, outputs, repro

STAGES = ("download", "partition", "train", "evaluate")
FEW = {"  clients: 250": "  clients: 40", "  clients_per_round: 230": "  clients_per_round: 20"}


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own in ``folder``."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "fedpipe-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leaves so much of the disk free that DVC can write its own notes, which it damages otherwise."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free - 128 * 1024
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    try:
        yield
    finally:
        ballast.unlink()


def dvc_repro(folder: Path, raw: Path, *stages: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["dvc", "repro", *stages],
        cwd=folder,
        env=environment(raw) | {"FEDPIPE_TRACKING": "off"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def undisturbed(clone: Callable[[str], Path], raw: Path) -> Path:
    folder = clone("undisturbed")
    edit(folder, SMALL | FEW)
    repro(folder, raw, FEDPIPE_TRACKING="off")
    return folder


@pytest.mark.slow
def test_a_full_disk_stops_each_stage_with_a_sentence(
    undisturbed: Path, clone: Callable[[str], Path], raw: Path, tmp_path: Path
) -> None:
    """Each stage in turn finds the disk full; once there is room it gives what an undisturbed run gives."""
    fresh = clone("fresh")
    edit(fresh, SMALL | FEW)
    with small_disk(tmp_path / "disk", 500) as disk:
        folder = Path(shutil.copytree(fresh, disk / "project", symlinks=True))
        for stage in STAGES:
            with filled(disk):
                full = dvc_repro(folder, raw, "--single-item", stage)
            assert full.returncode, full.stdout
            output = full.stdout.casefold()
            assert "no space left" in output or "disk" in output, full.stdout
            assert "traceback" not in output
            done = dvc_repro(folder, raw, "--single-item", stage)
            assert done.returncode == 0, done.stdout
        assert (folder / "dvc.lock").read_bytes() == (undisturbed / "dvc.lock").read_bytes()
        assert outputs(folder) == outputs(undisturbed)


@pytest.mark.slow
def test_a_full_disk_of_mlflow_keeps_the_run_for_later(undisturbed: Path, raw: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "project", symlinks=True))
    with small_disk(tmp_path / "disk", 8) as disk:
        store = f"sqlite:///{disk}/mlflow.db"
        with filled(disk):
            run = dvc_repro(
                folder, raw, "--force", "--single-item", "train", FEDPIPE_TRACKING="on", MLFLOW_TRACKING_URI=store
            )
        assert run.returncode == 0, run.stdout
        assert "its events are kept in" in run.stdout or "events are kept" in run.stdout, run.stdout
    assert list((folder / "logs/tracking/pending").iterdir())
    sync = subprocess.run(
        ["python", "-m", "operations.sync"],
        cwd=folder,
        env=environment(raw),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sync.returncode == 0 and "logged" in sync.stdout, sync.stdout + sync.stderr


@pytest.mark.slow
def test_two_at_once(undisturbed: Path, raw: Path, tmp_path: Path) -> None:
    """The second `dvc repro` is told that there is another, or waits; the results are those of one."""
    folder = Path(shutil.copytree(undisturbed, tmp_path / "project", symlinks=True))
    before = outputs(folder)
    command = ["dvc", "repro", "--force", "--single-item", "train"]
    both = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment(raw) | {"FEDPIPE_TRACKING": "off"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=240)[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, printed
    for code, text in zip(codes, printed, strict=True):
        assert code == 0 or "lock" in text.casefold() or "is busy" in text, text
        assert "Traceback" not in text
    assert outputs(folder) == before
