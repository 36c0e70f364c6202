"""A real TFF worker, one for all tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpipe import config as params
from fedpipe.runtime.worker import Worker


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(tmp_path_factory.mktemp("worker") / "worker.log") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def settings() -> params.Train:
    """The baseline recipe's."""
    return params.load(params.Train, Path(__file__).parents[2] / "params.yaml")
