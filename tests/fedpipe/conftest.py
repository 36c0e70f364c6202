"""The baseline recipe's params, and shards of small images."""

from pathlib import Path

import numpy as np
import pytest

from fedpipe import config as params
from fedpipe.datasets.shards import write_shards


@pytest.fixture
def settings() -> params.Train:
    """The baseline recipe's."""
    return params.load(params.Train, Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def small_images(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 clients with 0 to 12 real images each, of 8 x 8 pixels: several groups."""
    folder = tmp_path_factory.mktemp("small_images")
    images, labels = training_set
    members = np.split(np.arange(78), np.cumsum(range(12)))
    write_shards(folder, "mnist", images[:78, 2:26:3, 2:26:3].copy(), labels[:78], members, 10)
    return folder
