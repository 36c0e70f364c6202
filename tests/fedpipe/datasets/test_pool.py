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
from tests.registry_workspace import write_raw
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
        sha256, samples = hashlib.sha256(content).hexdigest(), len(training_set[1][part])
        entries.append(Entry(version=1, dataset=dataset, batch=name, samples=samples, sha256=sha256))
    POOL.write_ledger(entries)
    return tmp_path


def test_partition_has_the_batches_of_its_data_set_in_the_ledgers_order(project: Path, training_set: Samples) -> None:
    from fedpipe.datasets.shards import Manifest, read_shard

    done = run(project, ("clients: 600", "clients: 1"))
    assert done.returncode == 0, done.stderr
    assert Manifest.read(Path("data/clients")).samples == 60_050
    images, labels = read_shard(Path("data/clients"), 0)
    assert (images[60_000:] == training_set[0][:50]).all() and (labels[60_000:] == training_set[1][:50]).all()


def test_a_natural_partition_has_the_clients_that_batches_bring(
    tmp_path: Path, raw: Path, training_set: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of those that were withdrawn: fay's samples in the batch are gone, and her published ones nobody's."""
    from fedpipe.datasets.shards import Manifest, read_shard

    monkeypatch.chdir(tmp_path)
    images, labels = training_set
    write_raw(Path("data/raw"), (images[:90], labels[:90]), (images[:50], labels[:50]))
    text = "\n".join(["sample,client", *(f"{sample},{('ann', 'fay', 'kim')[sample % 3]}" for sample in range(90)), ""])
    Path("writers.csv").write_text(text)
    came = Batch(images[90:110], labels[90:110], np.array(["kim", "fay", "eve", "fay"] * 5))
    left = came.without("fay")
    layout.POOL.mkdir()
    POOL.batch_path("a").write_bytes(left.encode())
    sums = [hashlib.sha256(batch.encode()).hexdigest() for batch in (came, left)]
    row = entry("a", sha256=sums[0])
    gone = {"version": 2, "event": "withdrawn", "client": "fay", "batch": "", "samples": 0, "sha256": ""}
    less = {"version": 2, "event": "reduced", "client": "fay", "samples": 10, "sha256": sums[1]}
    POOL.write_ledger([row, row.model_copy(update=gone), row.model_copy(update=less)])
    assert "version,dataset,batch,samples,sha256,event,client" in POOL.ledger.read_text()
    assert [(now.batch, now.samples) for now in pool.present(POOL.read_ledger())] == [("a", 10)]

    pinned = f'table: writers.csv\n    sha256: "{hashlib.sha256(text.encode()).hexdigest()}"'
    old = "client\n    table: ''\n    sha256: '' # of the file"
    done = run(
        tmp_path,
        ("scheme: contiguous", "scheme: by_column"),
        ("clients: 600", "clients: 3"),
        (old, f"client\n    {pinned}"),
    )
    assert done.returncode == 0, done.stderr
    assert Path("data/clients/names.csv").read_text() == "client,name\n0,ann\n1,fay\n2,kim\n3,eve\n"
    assert Manifest.read(Path("data/clients")).clients == 4
    shards = [read_shard(Path("data/clients"), client) for client in range(4)]
    assert [len(shard[1]) for shard in shards] == [30, 0, 35, 5]
    assert (shards[2][0][30:] == images[90:110:4]).all() and (shards[3][0] == images[92:110:4]).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": 0}, "has its name, its samples and its SHA-256"),
        ({"event": "withdrawn", "client": "ann"}, "names either a batch or a client"),
        ({"event": "reduced"}, "names the batch and the withdrawn client"),
    ],
)
def test_a_row_that_says_two_things_is_no_row(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Entry.model_validate(entry("a").model_dump() | change)


def test_a_ledger_without_withdrawals_is_the_same_file_as_ever() -> None:
    assert pool.ledger_text([]) == "version,dataset,batch,samples,sha256\n"
    assert pool.ledger_text([entry("a")]) == f"version,dataset,batch,samples,sha256\n1,mnist,a,20,{'ab' * 32}\n"


def test_without_batches_partition_writes_what_it_would_without_a_pool(project: Path) -> None:
    POOL.write_ledger([])
    few = ("clients: 600", "clients: 5"), ("leave_out: 0", "leave_out: 59900")
    assert run(project, *few).returncode == 0
    with_empty = contents(project)
    shutil.rmtree("data/pool")
    assert run(project, *few).returncode == 0
    assert contents(project) == with_empty


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "data/pool/a.safetensors, a batch of data/pool/ledger.csv, is missing: restore it with `dvc checkout"),
        (b"changed", "data/pool/a.safetensors has SHA-256 "),
    ],
)
def test_a_batch_that_is_not_as_the_ledger_says_is_named(project: Path, content: bytes | None, reason: str) -> None:
    POOL.batch_path("a").write_bytes(content) if content else POOL.batch_path("a").unlink()
    done = run(project)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {reason}"), done.stderr
    assert contents(project) == {}


def test_a_ledger_with_another_number_of_samples_is_named(project: Path) -> None:
    entries = POOL.read_ledger()
    with pytest.raises(
        PipelineError, match=r"a\.safetensors has 30 samples, but data/pool/ledger\.csv says 31: restore"
    ):
        POOL.read(entries[1].model_copy(update={"samples": 31}))


def test_a_batch_of_another_shape_is_refused(project: Path, raw: Path) -> None:
    small = RawDataset.read(raw).model_copy(update={"image_shape": (20, 20, 1)})
    with pytest.raises(PipelineError, match="another of that name"):
        POOL.training_samples(small, (np.zeros((1, 20, 20, 1), np.uint8), np.zeros(1, np.uint8)))
