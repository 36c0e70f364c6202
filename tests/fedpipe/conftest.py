"""The baseline recipe's params."""

from pathlib import Path

import pytest

from fedpipe import config as params


@pytest.fixture
def settings() -> params.Train:
    """The baseline recipe's."""
    return params.load(params.Train, Path(__file__).parents[2] / "params.yaml")
