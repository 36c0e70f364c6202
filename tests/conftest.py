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
from tests import RECIPE, ROOT
from tests.browser import Browser, chromium
from tests.recorded import results_are_of_the_recipe

# Under nohup or in the background, SIGHUP or SIGINT is ignored, and what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What a retraining and a team's own recipe change in git, besides the pool.
TEAMS_OWN = ("dvc.lock", "metrics/", "models/", "plots/", "provenance.json")

# No time limit an example (the first pays for imports), and the same examples on every run.
settings.register_profile("fedpipe", deadline=None, derandomize=True)
settings.load_profile("fedpipe")


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four real MNIST files, fetched by the download stage from wherever it finds them."""
    project = tmp_path_factory.mktemp("mnist")
    shutil.copy(RECIPE / "params.yaml", project)
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
    return params.load(params.Train, RECIPE / "params.yaml")


@pytest.fixture(scope="session")
def small_images(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 clients with 0 to 12 real images each, of 10 x 10 pixels: several groups."""
    folder = tmp_path_factory.mktemp("small_images")
    images, labels = training_set
    members = np.split(np.arange(78), np.cumsum(range(12)))
    write_shards(folder, "mnist", images[:78, ::3, ::3].copy(), labels[:78], members, 10)
    return folder


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a fresh clone of this project with the recipe of the tests and an empty pool, and returns its folder.

    Uncommitted changes of the code are in it, and the committed results, if they are those of this recipe.
    """

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "fedpipe"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        left_out = (
            ("data/pool/", "models/initial", "models/champion", "models/kept")
            if results_are_of_the_recipe()
            else (*TEAMS_OWN, "data/pool/")
        )
        for file in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / file).is_file() and (file.endswith(".gitignore") or not file.startswith(left_out)):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
        shutil.copytree(RECIPE, folder, dirs_exist_ok=True)
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
