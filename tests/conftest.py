"""What tests share: the real MNIST files, small shards of them, and a clone of this project as it stands."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fedpipe import params
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import write_shards
from fedpipe.runtime.worker import Worker
from tests import ROOT
from tests.browser import Browser, chromium

# Under nohup or in the background, SIGHUP or SIGINT is ignored, and what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No time limit an example (the first pays for imports), and the same examples on every run.
settings.register_profile("fedpipe", deadline=None, derandomize=True)
settings.load_profile("fedpipe")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four real MNIST files, fetched by the download stage from wherever it finds them."""
    project = tmp_path_factory.mktemp("mnist")
    shutil.copy(ROOT / "params.yaml", project)
    subprocess.run(
        [sys.executable, "-m", "stages.download"], cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
    )
    return project / "data/raw"


@pytest.fixture(scope="session")
def training_set(raw: Path) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images and labels."""
    return RawDataset.read(raw).read_train(raw)


@pytest.fixture(scope="session")
def make_shards(
    training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[int]], Path]:
    """Writes shards of the given sizes, of consecutive training images, and returns their folder."""

    def make(sizes: list[int]) -> Path:
        folder = tmp_path_factory.mktemp("clients")
        members = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        write_shards(folder, "mnist", *training_set, members, 10)
        return folder

    return make


@pytest.fixture
def settings() -> params.Train:
    """The baseline recipe's."""
    return params.load(params.Train, ROOT / "params.yaml")


@pytest.fixture(scope="session")
def small_images(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 clients with 0 to 12 real images each, of 8 x 8 pixels: several groups."""
    folder = tmp_path_factory.mktemp("small_images")
    images, labels = training_set
    members = np.split(np.arange(78), np.cumsum(range(12)))
    write_shards(folder, "mnist", images[:78, 2:26:3, 2:26:3].copy(), labels[:78], members, 10)
    return folder


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a fresh clone of this project as it stands, uncommitted changes included, and returns its folder."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "fedpipe"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for file in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it stands"]):
            subprocess.run([*git, *command], cwd=folder, check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A real TFF worker, one for all tests of a process."""
    with Worker(tmp_path_factory.mktemp("worker") / "worker.log") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests that look at a page."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
