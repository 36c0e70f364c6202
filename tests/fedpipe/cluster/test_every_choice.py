"""Every algorithm, aggregator, attack and compressor has the local bits on a cluster of two workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: `make cluster-env` does that")

from fedpipe.cluster import parts
from fedpipe.cluster.cluster import opened
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS, asynchrony_of
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.datasets.shards import Manifest
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING, cohorts_of, wanted
from tests.fedpipe.cluster.running import Processes, noting_parts, processes, settings_of
from tests.fedpipe.training import run, same_bits, train_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(small_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(tmp_path_factory.mktemp("cluster"), ["one", "two"], small_images) as started:
        yield started


def test_all_of_them_are_here() -> None:
    names = {word for name in wanted() for word in name.split(" with ")} | {"no_compression"}
    assert names >= {*ALGORITHMS.names, *AGGREGATORS.names, *COMPRESSORS.names}


@pytest.mark.parametrize("name", wanted())
def test_has_the_local_bits(
    worker: Worker, small_images: Path, running: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A round is cut into parts, which both workers get; files that clients keep are in the shared folder."""
    monkeypatch.setattr(parts, "_LEAST_CLIENTS", 3)
    changes = wanted()[name]
    settings = train_settings(**TRAINING | {changes.get("algorithm", "fed_avg"): {}} | changes)
    cohorts = cohorts_of(settings, small_images)
    here = run(worker, settings, small_images, cohorts)
    ran = noting_parts(monkeypatch)
    cluster = settings_of(running, shared_folder=tmp_path)
    with opened(cluster, settings, Manifest.read(small_images).digest) as elsewhere:
        remote = run(worker, settings, small_images, cohorts, elsewhere=elsewhere, kept_in=tmp_path)
    assert same_bits(remote.weights, here.weights) and same_bits(remote.state, here.state)
    assert list(remote.kept) == list(here.kept) and same_bits(list(remote.kept.values()), list(here.kept.values()))
    assert len({who for who, _ in ran}) == 2
    assert asynchrony_of(settings) is not None or {one_by_one for _, one_by_one in ran} == {True, False}
    assert repr(remote.rounds) == repr(here.rounds)
