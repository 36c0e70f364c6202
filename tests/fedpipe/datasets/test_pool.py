"""The ledger and what the partition stage makes of it."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layout
from fedpipe.datasets import pool
from fedpipe.datasets.batch_file import Batch
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from tests import RECIPE, ROOT
from tests.stages.test_partition import contents, run

Samples = tuple[np.ndarray, np.ndarray]

POOL = Pool(layout.POOL)


def entry(name: str, version: int = 1, dataset: str = "mnist", sha256: str = "ab" * 32) -> Entry:
    return Entry(version=version, dataset=dataset, batch=name, samples=20, sha256=sha256)


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(0, 6))
def test_what_came_after_a_former_ledger(steps: list[int], former: int) -> None:
    entries = [entry(f"b{number}", version) for number, version in enumerate(np.cumsum(steps).tolist())]
    md5 = hashlib.md5(pool.ledger_text(entries[:former]).encode()).hexdigest()
    assert pool.not_trained_on(entries, md5) == entries[former:]
    assert pool.not_trained_on(entries, "none") == entries


def test_the_ledger_is_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert POOL.read_ledger() == [] and pool.version([]) == 0
    entries = [entry("a"), entry("b", 2, "other")]
    POOL.write_ledger(entries)
    assert POOL.read_ledger() == entries and pool.version(entries) == 2
    assert Pool(ROOT / layout.POOL).read_ledger() == [] or (ROOT / "data/pool").is_dir()
    POOL.ledger.write_text(POOL.ledger.read_text() + "x,mnist,c,20,abc\n")
    with pytest.raises(
        PipelineError, match=r"data/pool/ledger.csv, line 4: 'version' is 'x': .*restore it with `git checkout"
    ):
        POOL.read_ledger()


def test_a_run_in_mlflow_says_which_pool_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    POOL.write_ledger([entry("a"), entry("b", 4)])
    assert layout.pipeline_files().tags()["fedpipe.pool_version"] == "4"


@pytest.fixture
def project(tmp_path: Path, raw: Path, training_set: Samples, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two batches of MNIST in its pool and one of another data set."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/raw").symlink_to(raw)
    entries = []
    for name, part, dataset in (("b", slice(20), "mnist"), ("a", slice(20, 50), "mnist"), ("c", slice(5), "other")):
        content = Batch(training_set[0][part], training_set[1][part]).encode()
        POOL.batch_path(name).parent.mkdir(exist_ok=True)
        POOL.batch_path(name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(Entry(version=1, dataset=dataset, batch=name, samples=1, sha256=sha256))
    POOL.write_ledger(entries)
    return tmp_path


def test_partition_has_the_batches_of_its_data_set_in_the_ledgers_order(project: Path, training_set: Samples) -> None:
    from fedpipe.datasets.shards import Manifest, read_shard

    done = run(project, ("clients: 600", "clients: 1"))
    assert done.returncode == 0, done.stderr
    assert Manifest.read(Path("data/clients")).samples == 60_050
    images, labels = read_shard(Path("data/clients"), 0)
    assert (images[60_000:] == training_set[0][:50]).all() and (labels[60_000:] == training_set[1][:50]).all()


def test_without_batches_partition_writes_what_it_would_without_a_pool(project: Path) -> None:
    POOL.write_ledger([])
    few = ("clients: 600", "clients: 5"), ("leave_out: 0", "leave_out: 59900")
    assert run(project, *few).returncode == 0
    with_empty = contents(project)
    shutil.rmtree("data/pool")
    assert run(project, *few).returncode == 0
    assert contents(project) == with_empty


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "data/pool/a.safetensors, a batch of data/pool/ledger.csv, is missing: restore it with `dvc checkout"),
        (b"changed", "data/pool/a.safetensors has SHA-256 "),
    ],
)
def test_a_batch_that_is_not_as_the_ledger_says_is_named(project: Path, content: bytes | None, said: str) -> None:
    POOL.batch_path("a").write_bytes(content) if content else POOL.batch_path("a").unlink()
    done = run(project)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {said}"), done.stderr
    assert contents(project) == {}


def test_a_batch_of_another_shape_is_refused(project: Path, raw: Path) -> None:
    small = RawDataset.read(raw).model_copy(update={"image_shape": (20, 20, 1)})
    with pytest.raises(PipelineError, match="another of that name"):
        POOL.training_samples(small, (np.zeros((1, 20, 20, 1), np.uint8), np.zeros(1, np.uint8)))
