"""FedNova against plain NumPy, with the norm of a added up step by step as the paper defines it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_is_the_papers(worker: Worker, make_shards: Make, momentum: float, weighting: str) -> None:
    optimizer: dict[str, Any] = {"learning_rate": 0.1, "momentum": momentum}
    settings = train_settings(
        **TRAINING | {"client_optimizer": optimizer, "algorithm": "fed_nova", "client_weighting": weighting}
    )
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    weights = first_weights(settings)
    for cohort in COHORTS:
        normalised, lengths, masses = [], [], []
        for client in cohort:
            update, steps, _ = reference.sgd(weights, reference.samples_of(shards, client), settings)
            # Step j is weighed with 1 + rho + ... + rho^(steps - j).
            length = sum(sum(momentum**power for power in range(steps - j + 1)) for j in range(1, steps + 1))
            normalised.append([u / np.float32(length) if length else u for u in update])
            lengths.append(length)
            masses.append(SIZES[client] if weighting == "examples" else float(SIZES[client] > 0))
        effective = sum(m * length for m, length in zip(masses, lengths, strict=True)) / sum(masses)
        weights = reference.moved(weights, reference.mean(normalised, masses), effective)
    reference.assert_close(ended.weights, weights)


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_other_optimizers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"fed_nova weighs the steps of SGD only, and .* is {name}: set it to sgd, or"):
        train_settings(algorithm="fed_nova", client_optimizer={"name": name})
