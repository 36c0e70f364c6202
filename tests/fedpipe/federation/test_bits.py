"""A federation has the bits of the simulation over the pooled samples with the same sites."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING, cohorts_of, wanted
from tests.fedpipe.federation.sites import Sites, small
from tests.fedpipe.training import kept_in_file, run, same_bits, train_settings

SEVEN = [0, 2, 3, 4, 6, 8, 11]
NOBODY_OF_SITE_2 = [1, 2, 8, 9]
FEW: dict[str, dict[str, Any]] = {
    "scaffold with top_k": {"algorithm": "scaffold", "compressor": "top_k"},
    "fed_avg with secure_sum": {"aggregator": "secure_sum", "client_weighting": "uniform", "secure_sum": {}},
}
PERSONAL = ("ditto", "fed_per", "fed_rep", "ifca")


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("name", FEW)
def test_has_the_bits_of_the_simulation(worker: Worker, sites: Sites, name: str) -> None:
    settings = train_settings(**TRAINING | FEW[name])
    require_same_bits(worker, sites, settings, [range(12), SEVEN, NOBODY_OF_SITE_2])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in wanted() if not name.startswith(PERSONAL)])
def test_every_choice_has_the_bits_of_the_simulation(worker: Worker, sites: Sites, name: str) -> None:
    changes = wanted()[name]
    settings = train_settings(**TRAINING | {changes.get("algorithm", "fed_avg"): {}} | changes)
    require_same_bits(worker, sites, settings, cohorts_of(settings, sites.pooled))


def require_same_bits(worker: Worker, sites: Sites, settings: Any, cohorts: Any) -> None:
    here = run(worker, settings, sites.pooled, cohorts)
    with sites.training(settings) as federation:
        there = run(worker, settings, sites.coordinator, cohorts, elsewhere=federation)
    assert same_bits(there.weights, here.weights) and same_bits(there.state, here.state)
    assert repr(there.rounds) == repr(here.rounds)
    assert not there.kept  # at the coordinator
    files = {file.name: kept_in_file(file) for file in kept_files(sites) if file.name in here.kept}
    assert files.keys() == here.kept.keys()
    assert all(same_bits([files[name]], [here.kept[name]]) for name in files)


def kept_files(sites: Sites) -> list[Path]:
    return [file for name in sites.running for file in sites.place(name).state.glob("*/*.*")]
