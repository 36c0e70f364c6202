"""Withdrawn samples: gone from the pool and from DVC, never back, and the models that have seen them are named."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe.datasets import ledger, pool
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations.incoming import __main__ as incoming
from operations.incoming import withdraw as module
from operations.incoming.fetch import fetch
from operations.incoming.ingest import ingest
from operations.incoming.trained_on import models_trained_on
from operations.incoming.withdraw import withdraw_batch, withdraw_client
from tests.batches import add_clients, add_npz
from tests.operations.incoming.conftest import GIT
from tests.registry_workspace import Workspace

Samples = tuple[np.ndarray, np.ndarray]
INCOMING = Path("data/incoming")
POOL = Pool(layout.POOL)


@pytest.fixture
def dataset(taking_in: Path, raw: Path, training_set: Samples) -> RawDataset:
    """MNIST, with batch a of ann and bob in its pool and batch b of bob alone; clients left both in clients/."""
    images, labels = training_set
    for name, part, clients in (("a", slice(20), ["ann", "bob"] * 10), ("b", slice(20, 30), ["bob"] * 10)):
        add_npz(Path("clients"), name, images[part], labels[part])
        add_clients(Path("clients"), name, np.array(clients))
    mnist = RawDataset.read(raw)
    fetch("clients")
    assert len(ingest(mnist).accepted) == 2
    return mnist


def files() -> set[str]:
    return {path.name for path in layout.POOL.iterdir() if "safetensors" in path.name}


def test_a_batch_is_withdrawn_and_stays_away(dataset: RawDataset, training_set: Samples) -> None:
    before = POOL.read_ledger()
    done = withdraw_batch("a")
    assert (done.version, done.samples) == (2, {"a": 20})
    assert files() == {"b.safetensors", "b.safetensors.dvc"}
    rows = POOL.read_ledger()
    assert rows[:2] == before and [entry.batch for entry in pool.present(rows)] == ["b"]  # only ever added to
    assert pool.version(rows) == 2 and pool.digest(rows) != pool.digest(before)
    assert "a.safetensors" not in (layout.POOL / ".gitignore").read_text()

    # What was trained before it is known, and nothing of it is new.
    md5 = hashlib.md5(pool.ledger_text(before).encode()).hexdigest()
    assert pool.not_trained_on(rows, md5) == []
    assert [entry.batch for entry in pool.not_trained_on(rows, "none")] == ["b"]

    assert fetch("clients") == []
    shutil.copytree("clients", INCOMING, dirs_exist_ok=True)
    again = ingest(dataset)
    assert again.rejected == {"a": "it was withdrawn in version 2 of the pool, and does not come back"}
    assert again.known == ["b"] and POOL.read_ledger() == rows
    assert withdraw_batch("a") == done  # a second time changes nothing
    with pytest.raises(PipelineError, match="the pool has no batch 'c'"):
        withdraw_batch("c")
    samples = POOL.training_samples(dataset, (training_set[0][:5], training_set[1][:5]))
    assert [(batch.came, len(batch.labels)) for batch in samples.batches] == [(20, 0), (10, 10)]
    assert len(samples.labels) == len(samples.images) == 15


def test_a_client_is_withdrawn_from_all_batches_and_stays_away(dataset: RawDataset, training_set: Samples) -> None:
    done = withdraw_client("bob", dataset)
    assert (done.version, done.samples) == (2, {"a": 10, "b": 10})
    rows = POOL.read_ledger()
    (left,) = pool.present(rows)
    batch = POOL.read(left)
    assert (left.batch, left.samples) == ("a", 10) and files() == {"a.safetensors", "a.safetensors.dvc"}
    assert batch.clients is not None and set(batch.clients) == {"ann"} and batch.positions is not None
    assert batch.positions.tolist() == list(range(0, 20, 2))
    assert (batch.images == training_set[0][:20:2]).all() and (batch.labels == training_set[1][:20:2]).all()
    assert ledger.withdrawn_clients(rows, "mnist") == ["bob"] and ledger.withdrawn_clients(rows, "other") == []
    assert withdraw_client("bob", dataset) == done and POOL.read_ledger() == rows
    with pytest.raises(PipelineError, match=r"no sample of mnist is of a client 'bo'"):
        withdraw_client("bo", dataset)

    # The batch as it came is known, and its file comes back without the client.
    content = POOL.batch_path("a").read_bytes()
    POOL.batch_path("a").unlink()
    assert fetch("clients") == ["a"] and ingest(dataset).known == ["a"]
    assert POOL.batch_path("a").read_bytes() == content
    # A new batch comes in without the client's samples.
    add_npz(INCOMING, "c", training_set[0][30:40], training_set[1][30:40])
    add_clients(INCOMING, "c", np.array(["bob", "eve"] * 5))
    add_npz(INCOMING, "d", training_set[0][40:50], training_set[1][40:50])
    add_clients(INCOMING, "d", np.array(["bob"] * 10))
    new = ingest(dataset)
    assert [(entry.batch, entry.samples) for entry in new.accepted] == [("c", 5)]
    assert new.rejected == {"d": "all its samples are of clients whose samples were withdrawn"}


def test_published_samples_of_a_client_are_withdrawn(dataset: RawDataset) -> None:
    done = withdraw_client("fay", dataset, ["ann", "fay", "fay"])
    assert (done.samples, done.published) == ({}, 2)
    assert len(pool.present(POOL.read_ledger())) == 2


@pytest.mark.slow
def test_the_command_says_what_is_gone_and_what_remains(
    dataset: RawDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    incoming._withdraw(["client", "bob"])
    output = capsys.readouterr().err.splitlines()
    assert (
        output[0] == "incoming: client bob: withdrawn in pool version 2: 10 samples of batch a, 10 samples of batch b"
    )
    assert "incoming: no model of the registry or of a tag in git was trained on them" in output
    assert output[-1].endswith("DVC's cache and remote still have the samples until `dvc gc` (docs/incoming.md)")
    assert not Path("mlflow.db").exists()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("init: fresh #", "init: champion #", 1))
    incoming._withdraw(["a"])
    assert "the next training starts from weights that may have seen them" in capsys.readouterr().err
    with pytest.raises(
        PipelineError, match=r'withdraw takes the name of a batch, or "client" and the name of a client'
    ):
        incoming._withdraw(["a", "b"])


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["dvc", "reduce"])
def test_killed_on_the_way_it_is_done_again(
    dataset: RawDataset, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*{"dvc": (module.commands, "dvc"), "reduce": (module, "_reduce")}[killed_at], kill)
        with pytest.raises(KeyboardInterrupt):
            withdraw_client("bob", dataset)
    done = withdraw_client("bob", dataset)
    assert done.samples == {"a": 10, "b": 10} and files() == {"a.safetensors", "a.safetensors.dvc"}
    assert POOL.read(pool.present(POOL.read_ledger())[0]).labels.shape == (10,)


@pytest.mark.slow
def test_the_models_that_have_seen_them_are_named(workspace: Workspace) -> None:
    """Versions by their run's version of the pool, and tags by the ledger of their commit."""
    entry = pool.Entry(version=1, dataset="mnist", batch="a", samples=20, sha256="ab" * 32)
    rows = [entry, entry.model_copy(update={"batch": "b", "version": 2, "sha256": "cd" * 32})]
    subprocess.run(["git", "init", "-q"], check=True)
    for count, model in enumerate(("weak", "strong", "twin")):
        POOL.write_ledger(rows[:count])
        for command in (["add", "data/pool"], ["commit", "-qm", "x"], ["tag", f"models/mnist/v{count + 1}"]):
            subprocess.run([*GIT, *command], check=True)
        workspace.register(model)
    rows.append(entry.model_copy(update={"version": 3, "event": "withdrawn"}))
    POOL.write_ledger(rows)
    models = [model.partition(", commit")[0] for model in models_trained_on(["a"], rows, "mnist")]
    assert models == [
        "fedpipe-mnist version 2 (pool version 1",
        "fedpipe-mnist version 3 (pool version 2",
        "git tag models/mnist/v2",
        "git tag models/mnist/v3",
    ]
    assert [model[:23] for model in models_trained_on(["b"], rows, "mnist")] == [
        "fedpipe-mnist version 3",
        "git tag models/mnist/v3",
    ]
    assert models_trained_on(["a"], rows, "other") == []
