"""FedNova: what it refuses (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fedpipe.training import train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_other_optimizers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"fed_nova weighs the steps of SGD only, and .* is {name}: set it to sgd, or"):
        train_settings(algorithm="fed_nova", client_optimizer={"name": name})
