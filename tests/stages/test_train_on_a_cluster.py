"""Stage train on a real cluster: the bits of this machine, with nothing in dvc.lock; and again after all workers went.

The training is SCAFFOLD with Adam at the server and the best weights kept: clients keep files, and the state is rich.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: `make cluster-env` does that")

from tests.fedpipe.cluster.running import Processes, processes
from tests.small_pipeline import environment, outputs
from tests.stages.test_resume import configure

pytestmark = pytest.mark.slow
OF_TRAIN = ("models/weights.safetensors", "models/best.safetensors", "metrics/rounds.csv", "metrics/training.json")


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path], raw: Path) -> Path:
    """A project whose stages have run on this machine."""
    folder = clone("project")
    configure(folder, 9)
    subprocess.run(["dvc", "repro"], cwd=folder, env=environment(raw), check=True)
    return folder


@pytest.fixture
def running(project: Path, tmp_path: Path) -> Iterator[Processes]:
    """A cluster of two workers that share the project's folder, named in cluster.yaml."""
    with processes(tmp_path / "cluster", ["one", "two"], project / "data/clients") as started:
        text = f"address: {started.address}\ncertificates: {started.certificates}\nwait_seconds: 3\n"
        (project / "cluster.yaml").write_text(f"{text}shared_folder: {project}\n")
        yield started
        (project / "cluster.yaml").unlink()


def trained_again(project: Path, raw: Path, log: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """Stage train as DVC runs it, though nothing has changed."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["dvc", "repro", "--force", "--single-item", "train"],
            cwd=project,
            env=environment(raw) | variables,
            stdout=output,
            stderr=output,
        )


def test_same_bits_and_the_same_lock(project: Path, raw: Path, running: Processes, tmp_path: Path) -> None:
    lock, before, log = (project / "dvc.lock").read_bytes(), outputs(project), tmp_path / "log"
    (project / "cluster.yaml").rename(project / "cluster.yaml.off")  # by the environment this time
    named = {"FEDPIPE_CLUSTER": running.address, "FEDPIPE_CERTIFICATES": str(running.certificates)}
    try:
        process = trained_again(project, raw, log, **named, FEDPIPE_SHARED_FOLDER=str(project))
        assert process.wait(300) == 0, log.read_text()
    finally:
        (project / "cluster.yaml.off").rename(project / "cluster.yaml")
    assert f"2 workers take part, of the cluster at {running.address}" in log.read_text()
    assert outputs(project) == before and set(OF_TRAIN) <= set(before)
    assert (project / "dvc.lock").read_bytes() == lock


def test_goes_on_after_all_workers_went(project: Path, raw: Path, running: Processes, tmp_path: Path) -> None:
    lock, before, log = (project / "dvc.lock").read_bytes(), outputs(project), tmp_path / "log"
    process = trained_again(project, raw, log)
    while log.read_text().count("\nround ") < 3:
        assert process.poll() is None, log.read_text()
    for name in ("one", "two"):
        running.all[name].send_signal(signal.SIGKILL)
    assert process.wait(300) != 0
    output = log.read_text()
    assert "waits for one, at most 3 s" in output and "had no worker for 3 s" in output
    assert "train: stopped; run it again to resume after round" in output
    assert any((project / "logs/train/checkpoints").glob("*.safetensors"))
    running.start_worker("three", project / "data/clients")
    running.wait_for("three", "worker: at")
    assert trained_again(project, raw, log).wait(300) == 0, log.read_text()
    assert "train: resumes at round" in log.read_text()
    assert outputs(project) == before
    assert (project / "dvc.lock").read_bytes() == lock
