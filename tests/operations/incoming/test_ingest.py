"""Taking batches in, with real DVC: good ones into the pool, bad ones aside, and nothing twice."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import layout
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations.incoming import ingest as module
from operations.incoming.__main__ import take_in
from operations.incoming.fetch import fetch
from operations.incoming.ingest import Rules, ingest
from operations.retrain.summary import rejected
from tests import RECIPE, ROOT
from tests.batches import add_clients, add_hash, add_idx, add_npz

Samples = tuple[np.ndarray, np.ndarray]
INCOMING, REJECTED = Path("data/incoming"), Path("data/rejected")

POOL = Pool(layout.POOL)


@pytest.fixture
def project(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> RawDataset:
    """A DVC project with an empty pool, as the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data/pool", "data/pool", ignore=shutil.ignore_patterns("*.dvc", "*.safetensors", "*.csv"))
    POOL.write_ledger([])
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    return RawDataset.read(raw)


def test_the_good_go_into_the_pool_and_the_bad_aside(project: RawDataset, training_set: Samples) -> None:
    images, labels = training_set
    add_npz(INCOMING, "b", images[:20], labels[:20])
    add_idx(INCOMING, "a", images[20:50, :, :, 0], labels[20:50])
    add_npz(INCOMING, "bad", images[:20, 1:], labels[:20])
    add_npz(INCOMING, "copy", images[:20, :, :, 0], labels[:20])
    (INCOMING / "notes.txt").write_text("hello")
    result = ingest(project)
    assert [(e.batch, e.version, e.samples) for e in result.accepted] == [("a", 1, 30), ("b", 1, 20)]
    assert POOL.read_ledger() == result.accepted
    assert list(result.rejected) == ["notes.txt", "bad", "copy"]
    assert "holds the same samples as batch 'b'" in (REJECTED / "copy.reason.txt").read_text()
    assert {p.name for p in REJECTED.iterdir()} == {
        *("notes.txt", "bad.npz", "bad.npz.sha256", "copy.npz", "copy.npz.sha256"),
        *("notes.txt.reason.txt", "bad.reason.txt", "copy.reason.txt"),
    }
    assert list(INCOMING.iterdir()) == []
    # git sees what stands for the samples, never the samples.
    seen = subprocess.run(["git", "status", "--porcelain", "-uall", "data/pool"], capture_output=True, text=True).stdout
    assert sorted(line[3:] for line in seen.splitlines()) == [
        f"data/pool/{name}" for name in (".gitignore", "a.safetensors.dvc", "b.safetensors.dvc", "ledger.csv")
    ]
    joined = POOL.training_samples(project, (images[:5], labels[:5]))
    assert (joined.images == np.concatenate([images[:5], images[20:50], images[:20]])).all()
    assert (joined.labels == np.concatenate([labels[:5], labels[20:50], labels[:20]])).all()

    add_npz(INCOMING, "c", images[60:70], labels[60:70])
    add_idx(INCOMING, "bad", images[80:90, :, :, 0], labels[80:90])
    add_npz(INCOMING, "a", images[60:80], labels[60:80])
    again = ingest(project)
    assert [(e.batch, e.version) for e in again.accepted] == [("bad", 2), ("c", 2)]
    assert "the pool has another batch of the name 'a' since version 1" in again.rejected["a"]
    # The rejected files of a batch that is good now are gone.
    assert not [path.name for path in REJECTED.iterdir() if path.name.startswith("bad")]
    assert (REJECTED / "copy.npz").exists() and (REJECTED / "copy.reason.txt").exists()


def test_a_natural_partition_takes_no_batch_without_clients(project: RawDataset, training_set: Samples) -> None:
    """Its clients may come in a file of their own, which is waited for."""
    images, labels = training_set[0][:20, :, :, 0], training_set[1][:20]
    add_npz(INCOMING, "a", images, labels)
    add_npz(INCOMING, "b", images[:10], labels[:10])
    add_clients(INCOMING, "b", np.array(["ann", "bob"] * 5))
    add_idx(INCOMING, "c", images, labels)
    result = ingest(project, Rules(named_by="by_column"))
    assert "it names no clients, but 'partition.scheme' in params.yaml is by_column, whose" in result.rejected["a"]
    assert [entry.batch for entry in result.accepted] == ["b"] and result.waiting == ["c"]
    clients = POOL.read(POOL.read_ledger()[0]).clients
    assert clients is not None and clients.tolist() == ["ann", "bob"] * 5
    assert "c" in [entry.batch for entry in ingest(project).accepted]  # another scheme needs none


def test_what_may_be_on_its_way_waits_an_hour(
    tmp_path: Path,
    raw: Path,
    training_set: Samples,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = training_set[0][:20, :, :, 0], training_set[1][:20]
    shutil.copy(RECIPE / "params.yaml", ".")
    Path("data").mkdir()
    Path("data/raw").symlink_to(raw)
    add_npz(INCOMING, "no-hash", images, labels)
    (INCOMING / "no-hash.npz.sha256").unlink()
    add_idx(INCOMING, "half", images, labels)
    for path in INCOMING.glob("half-labels*"):
        path.unlink()
    add_npz(INCOMING, "wrong", images[:, 1:], labels)
    result = take_in()
    assert result.waiting == ["half", "no-hash"] and list(result.rejected) == ["wrong"]
    assert "incoming: half: left in data/incoming for now: a file of it or" in capsys.readouterr().err
    assert len(list(INCOMING.iterdir())) == 3

    for path in INCOMING.iterdir():
        os.utime(path, (time.time() - 3700,) * 2)
    (INCOMING / "no-hash.npz").touch()
    again = take_in()
    assert again.waiting == ["no-hash"] and list(again.rejected) == ["half"]


def test_names_in_rejected_are_safe_and_the_reason_holds_the_senders(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub's upload of artifacts ends at a colon, and keeps nothing of the run."""
    monkeypatch.chdir(tmp_path)
    names = ["a:b.npz", "a:b.npz.sha256", "a*b.txt", "what?", "x" * 250, "plain.txt", "Müller"]
    for name in names:
        (INCOMING / name).parent.mkdir(parents=True, exist_ok=True)
        (INCOMING / name).write_text(name)
    (INCOMING / "fol<der>/in:side").mkdir(parents=True)
    (INCOMING / 'fol<der>/in:side/"quoted"').touch()
    result = ingest(RawDataset.read(raw))
    put_aside = [path.relative_to(REJECTED) for path in REJECTED.rglob("*")]
    assert not [path for path in put_aside if set('":<>|*?\r\n\\') & {*str(path)}]
    assert len([path for path in put_aside if not path.name.endswith(".reason.txt")]) == len(names) + 3
    assert {Path("plain.txt"), Path("Müller")} <= {*put_aside}
    reasons = {path.name: path.read_text(encoding="utf-8") for path in REJECTED.glob("*.reason.txt")}
    assert len(reasons) == len(result.rejected) == 7
    assert [text for text in reasons.values() if text.endswith("(its name is 'a:b')\n")]
    assert [text for text in reasons.values() if text.endswith("(its name is 'fol<der>')\n")]


def test_odd_names_of_files_stop_nothing(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    INCOMING.mkdir(parents=True)
    Path(os.fsdecode(bytes(INCOMING) + b"/\xff\n::warning::x")).touch()
    (reason,) = ingest(RawDataset.read(raw)).rejected.values()
    assert reason.startswith("\\udcff ::warning::x is no batch")
    (_, line) = rejected()
    assert re.match(r"- `___+warning__x-\w{8}`: `\\udcff ::warning::x is no batch; expected: NAME.npz", line)
    (REJECTED / "evil.reason.txt").write_text("[click](https://example.com) `<img src=x>` @somebody " + "x" * 1000)
    (_, lines) = rejected()
    (evil,) = [line for line in lines.splitlines() if line.startswith("- `evil`")]
    assert "`[click](https://example.com) '<img src=x>' @somebody xx" in evil and len(evil) < 320
    for number in range(300):
        (REJECTED / f"bad-{number}.reason.txt").write_text("wrong " * 50)
    assert len("".join(rejected())) < 16_000 and rejected()[1].endswith("… and more, in `data/rejected`.")


@pytest.mark.parametrize("killed_at", ["dvc", "ledger", "removing"])
def test_killed_anywhere_it_is_done_again(
    project: RawDataset, training_set: Samples, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    add_npz(INCOMING, "a", training_set[0][:20], training_set[1][:20])

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if killed_at == "removing":
            patch.setattr(Path, "unlink", kill)
        else:
            patch.setattr(*{"dvc": (module.commands, "dvc"), "ledger": (Pool, "write_ledger")}[killed_at], kill)
        with pytest.raises(KeyboardInterrupt):
            ingest(project)
    assert len(POOL.read_ledger()) == (killed_at == "removing")
    result = ingest(project)
    assert result.rejected == {} and result.known == (["a"] if killed_at == "removing" else [])
    assert [entry.batch for entry in POOL.read_ledger()] == ["a"] and list(INCOMING.iterdir()) == []
    assert (POOL.read_batch(POOL.read_ledger()[0])[0] == training_set[0][:20]).all()


def test_fetched_from_a_folder_only_what_the_pool_does_not_have(
    project: RawDataset, training_set: Samples, tmp_path: Path
) -> None:
    clients = tmp_path / "clients"
    add_npz(clients, "a", training_set[0][:20], training_set[1][:20])
    (clients / "notes.txt").write_text("hello")
    assert fetch(str(clients)) == ["a"] and len(ingest(project).accepted) == 1
    assert fetch(str(clients)) == []
    # A batch whose file was lost is fetched again and put back, for DVC too.
    before = [path.read_bytes() for path in (POOL.ledger, Path("data/pool/a.safetensors.dvc"))]
    POOL.batch_path("a").unlink()
    shutil.rmtree(".dvc/cache")
    assert fetch(str(clients)) == ["a"]
    again = ingest(project)
    assert (again.accepted, again.rejected, again.known) == ([], {}, ["a"])
    assert [path.read_bytes() for path in (POOL.ledger, Path("data/pool/a.safetensors.dvc"))] == before
    assert (POOL.read_batch(POOL.read_ledger()[0])[1] == training_set[1][:20]).all()
    assert list(Path(".dvc/cache/files").rglob("*/*"))
    add_idx(clients, "b", training_set[0][20:30, :, :, 0], training_set[1][20:30])
    os.utime(clients / "b-labels-idx1-ubyte", (1e9, 1e9))
    assert fetch(clients.as_uri()) == ["b"] and len(list(INCOMING.iterdir())) == 4
    assert (INCOMING / "b-labels-idx1-ubyte").stat().st_mtime == 1e9
    with pytest.raises(PipelineError, match="cannot fetch batches from /nowhere"):
        fetch("/nowhere")


def test_fetched_from_a_bucket(project: RawDataset, training_set: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (address | {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_PROXY", host)
        add_npz(Path("made"), "a", training_set[0][:20], training_set[1][:20])
        bucket = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        bucket.create_bucket(Bucket="clients")
        for path in Path("made").iterdir():
            bucket.upload_file(str(path), "clients", f"new/{path.name}")
        assert fetch("s3://clients/new") == ["a"]
        assert [entry.samples for entry in ingest(project).accepted] == [20]
        with pytest.raises(PipelineError, match="cannot fetch batches from s3://none"):
            fetch("s3://none/new")
    finally:
        server.stop()


def test_the_command_says_a_line_a_batch(project: RawDataset, training_set: Samples, raw: Path) -> None:
    shutil.copy(RECIPE / "params.yaml", ".")
    Path("data/raw").symlink_to(raw)
    add_npz(INCOMING, "a", training_set[0][:20], training_set[1][:20])
    add_hash(INCOMING / "a.npz")
    done = subprocess.run(
        [sys.executable, "-m", "operations.incoming"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "incoming: a: 20 samples, pool version 1\n"


def test_a_coordinator_takes_no_batch_that_no_training_would_use(
    project: RawDataset, training_set: Samples, raw: Path
) -> None:
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8").replace("sites: []", "sites: [a, b]")
    Path("params.yaml").write_text(text.replace("scheme: contiguous", "scheme: at_sites"), encoding="utf-8")
    Path("data/raw").symlink_to(raw)
    add_npz(INCOMING, "a", training_set[0][:20], training_set[1][:20])
    with pytest.raises(PipelineError, match=r"'partition.scheme' is at_sites, .* run this at the site that has the"):
        take_in()
    assert (INCOMING / "a.npz").exists() and not POOL.read_ledger()
