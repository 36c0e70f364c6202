"""Chunks on a real Dask cluster over TLS: the bits of the local run, whoever computes, dies or hangs."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: `make cluster-env` does that")

from fedpipe.runtime import engine as engine_module
from fedpipe.runtime.worker import Worker
from tests.fedpipe.cluster.running import processes, settings_of, trained
from tests.fedpipe.training import same_bits, train_settings

Make = Callable[[list[int]], Path]
SETTINGS = train_settings(model="logistic_regression", local_epochs=1)
COHORTS = [list(range(24))] * 3


@pytest.fixture(scope="module")
def shards(make_shards: Make) -> Path:
    return make_shards([12] * 24)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks a round, of few clients."""
    monkeypatch.setattr(engine_module, "CHUNK", 2)


def test_same_bits_as_on_this_machine(worker: Worker, shards: Path, tmp_path: Path) -> None:
    here = trained(worker, SETTINGS, shards, COHORTS)
    with processes(tmp_path, ["one", "two"], shards) as running:
        there = trained(worker, SETTINGS, shards, COHORTS, settings_of(running))
    assert same_bits(here[0], there[0]) and here[1] == there[1]
