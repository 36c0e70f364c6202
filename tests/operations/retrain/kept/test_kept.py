"""A state: what is in it, what is not, and that a damaged or malicious one writes nothing.

The projects here have git, DVC's files and a cache as `dvc repro` and `dvc add` leave them, written by hand.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

import layout
from fedpipe.errors import PipelineError
from operations.retrain.kept import pack, unpack
from operations.retrain.kept.manifest import Kept, Manifest, object_path
from operations.retrain.kept.pack import LAST_NAMED
from operations.retrain.kept.places import CHECKPOINTS, UNFINISHED
from operations.retrain.kept.resuming import resumes
from tests import RECIPE

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t.t"]
WEIGHTS, SHARDS, PICTURE = b"weights", b"shards", b"picture"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def cached(content: bytes) -> str:
    """Puts ``content`` into DVC's cache and returns its MD5."""
    path = Path(".dvc/cache/files/md5", md5(content)[:2], md5(content)[2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5(content)


def folder_cached(**files: bytes) -> str:
    """The same of a folder."""
    entries = [{"md5": cached(content), "relpath": name} for name, content in files.items()]
    listing = json.dumps(entries).encode()
    path = Path(".dvc/cache/files/md5", md5(listing)[:2], md5(listing)[2:] + ".dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(listing)
    return f"{md5(listing)}.dir"


def add_batch(name: str, version: int = 1) -> None:
    """A batch as an ingest adds it."""
    ledger = Path("data/pool/ledger.csv")
    content = name.encode()
    with ledger.open("a") as file:
        file.write(f"{version},mnist,{name},1,{hashlib.sha256(content).hexdigest()}\n")
    out = {"md5": cached(content), "hash": "md5", "path": f"{name}.safetensors"}
    Path(f"data/pool/{name}.safetensors.dvc").write_text(yaml.safe_dump({"outs": [out]}))


def git(*arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def record(name: str, *outs: dict[str, str]) -> Path:
    """A record of a run that made ``outs``."""
    path = Path(".dvc/cache/runs", name[:2], name, "value")
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"cmd": "true", "outs": list(outs)}))
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a batch on main, one on a branch, one of a tag, and the results of a training."""
    folder = tmp_path / "project"
    (folder / "data/pool").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "FEDPIPE_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(RECIPE / "params.yaml", folder)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".gitignore").write_text("/logs/\n/mlflow.db*\n/mlartifacts/\n")
    Path("data/pool/ledger.csv").write_text("version,dataset,batch,samples,sha256\n")
    add_batch("week-1")
    weights = {"path": "models/weights.safetensors", "md5": cached(WEIGHTS)}
    table = {"path": "metrics/copies/train", "md5": folder_cached(rounds=b"rounds")}
    shards = {"path": "data/clients", "md5": folder_cached(shard=SHARDS)}
    lock = {"schema": "2.0", "stages": {"partition": {"outs": [shards]}, "train": {"outs": [weights, table]}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    record("ab-train", weights, table)
    record("cd-partition", shards)
    record("ef-other", {"path": "models/weights.safetensors", "md5": cached(b"weights of another day")})
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "first")
    for branch, batch in (("retrain/main", "week-2"), ("old", "week-0")):
        git("switch", "-qc", branch, "main")
        add_batch(batch)
        git("add", "-A")
        git("commit", "-qm", batch)
    git("tag", "models/mnist/v1")
    git("switch", "-q", "main")
    git("branch", "-qD", "old")
    return folder


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """A fresh clone of it."""
    git("clone", "-q", str(project), str(tmp_path / "clone"))
    return tmp_path / "clone"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a state by their names."""
    files = Manifest.read(folder).all_files()
    return {each.path: object_path(folder, each.sha256).read_bytes() for each in files}


def test_batches_weights_and_useful_records_are_kept_and_nothing_that_is_made_again(project: Path, state: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file() and ".git" not in path.parts
    }
    packed = pack(state)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    kept = set(contents(state).values())
    assert {WEIGHTS, b"rounds", b"week-0", b"week-1", b"week-2"} <= kept
    assert not {SHARDS, b"weights of another day"} & kept
    assert [name for name in contents(state) if "/runs/" in name] == ["cache/runs/ab/ab-train/value"]
    place = object_path(state, hashlib.sha256(WEIGHTS).hexdigest())
    assert place.stat().st_nlink == 2 and packed.bytes < 20_000
    pack(state)  # over the one before
    assert set(contents(state).values()) == kept


def test_a_clone_gets_what_is_not_there_and_keeps_what_is(
    project: Path, state: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(state)
    monkeypatch.chdir(clone)
    damaged_here = Path(".dvc/cache/files/md5", md5(WEIGHTS)[:2], md5(WEIGHTS)[2:])
    damaged_here.parent.mkdir(parents=True)
    damaged_here.write_bytes(b"mine")
    unpacked = unpack(state)
    assert unpacked.commit == git("rev-parse", "HEAD") and not unpacked.notes and not unpacked.unfinished
    assert damaged_here.read_bytes() == b"mine" and git("status", "--porcelain") == ""
    (batch,) = Path(".dvc/cache").rglob(md5(b"week-2")[2:])
    assert batch.read_bytes() == b"week-2" and batch.stat().st_mode & 0o777 == 0o444


def test_a_batch_that_no_ledger_names_is_kept_for_as_long_as_an_artifact(project: Path, state: Path) -> None:
    git("branch", "-qD", "retrain/main")
    for days, is_kept in ((89, True), (90, False)):
        day = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
        LAST_NAMED.parent.mkdir(parents=True, exist_ok=True)
        LAST_NAMED.write_text(json.dumps({md5(b"week-2"): day}))
        pack(state)
        assert (b"week-2" in contents(state).values()) == is_kept
        assert Manifest.read(state).batches.get(md5(b"week-2"), None) == (
            datetime.fromisoformat(day).date() if is_kept else None
        )


@pytest.mark.parametrize("content", ["<<<<<<< ours\n", "stages: 3\n", "stages:\n  train: [a]\n", "- no lock\n"])
def test_somebody_s_branch_with_a_broken_lock_costs_nothing(
    project: Path, state: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(state)
    before = contents(state)
    git("switch", "-qc", "work")
    Path("dvc.lock").write_text(content)
    Path("metrics").mkdir()
    Path("metrics/training.json").write_text(content)
    git("add", "-A")
    git("commit", "-qm", "work in progress")
    git("switch", "-q", "main")
    pack(state)
    assert contents(state) == before and "is passed over: " in capsys.readouterr().err


def test_a_shallow_clone_drops_no_batch(
    project: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(state)
    git("clone", "-q", "--depth", "1", f"file://{project}", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    unpack(state)
    LAST_NAMED.write_text(LAST_NAMED.read_text().replace(str(datetime.now(UTC).year), "2020"))
    pack(tmp_path / "next")
    assert {b"week-0", b"week-1", b"week-2"} <= set(contents(tmp_path / "next").values())


def test_what_the_remote_has_is_left_out(project: Path, state: Path, tmp_path: Path) -> None:
    place = tmp_path / "remote/files/md5" / md5(WEIGHTS)[:2] / md5(WEIGHTS)[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(WEIGHTS)
    Path(".dvc/config").write_text(f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {tmp_path}/remote\n")
    packed = pack(state)
    assert packed.left_out == ["1 outputs are in the DVC remote shared"]
    kept = set(contents(state).values())
    assert WEIGHTS not in kept and {b"week-1", b"rounds"} <= kept  # not pushed yet


def test_a_remote_that_does_not_answer_keeps_nothing(
    project: Path, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("dvc.data_cloud.DataCloud.get_remote_odb", unreachable)
    Path(".dvc/config").write_text("[core]\n    remote = far\n['remote \"far\"']\n    url = s3://bucket/dvc\n")
    pack(state)
    assert WEIGHTS in contents(state).values()
    assert "the DVC remote far does not answer (no route to host): all is kept" in capsys.readouterr().err


def test_a_registry_on_a_server_is_left_out(
    project: Path, state: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, "mlflow.db")
    pack(state)
    assert "mlflow.db" in contents(state)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    packed = pack(state)
    assert "mlflow.db" not in contents(state) and any("MLFLOW_TRACKING_URI" in line for line in packed.left_out)


def test_an_unfinished_retraining_comes_with_its_inputs_and_checkpoint(
    project: Path, state: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_batch("week-3", version=2)
    CHECKPOINTS.mkdir(parents=True)
    (CHECKPOINTS / "round-000004.safetensors").write_bytes(b"checkpoint")
    (CHECKPOINTS / "round-000005.safetensors.partial").write_bytes(b"half")
    pack(state)
    assert not Manifest.read(state).inputs  # the retraining has ended: the next starts from git
    UNFINISHED.parent.mkdir(parents=True)
    UNFINISHED.touch()
    pack(state)
    ledger = layout.POOL / "ledger.csv"
    content = ledger.read_bytes()
    monkeypatch.chdir(clone)
    before = ledger.read_bytes()
    unpacked = unpack(state, takes_unfinished=False)  # as an experiment does
    assert not unpacked.unfinished and not resumes() and ledger.read_bytes() == before and not CHECKPOINTS.exists()
    assert "inputs and its checkpoint are not taken" in unpacked.notes[0]
    assert unpack(state).unfinished and resumes()
    assert ledger.read_bytes() == content and Path("data/pool/week-3.safetensors.dvc").is_file()
    assert [path.name for path in CHECKPOINTS.iterdir()] == ["round-000004.safetensors"]


def test_inputs_are_not_taken_over_changes_in_git(
    project: Path, state: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_batch("week-3", version=2)
    UNFINISHED.parent.mkdir(parents=True)
    UNFINISHED.touch()
    pack(state)
    monkeypatch.chdir(clone)
    add_batch("week-4", version=2)
    before = Path("data/pool/ledger.csv").read_bytes()
    (note,) = unpack(state).notes
    assert note.startswith("data/pool/ledger.csv changed since the unfinished retraining started from ")
    assert Path("data/pool/ledger.csv").read_bytes() == before
    assert not Path("data/pool/week-3.safetensors.dvc").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("changed", "is damaged"),
        ("missing", "is missing"),
        ("added", r"extra is not in .*manifest\.json"),
        ("link", "is a symbolic link"),
        ("manifest", r"manifest\.json is damaged"),
        ("../outside", "no path below the project's folder"),
        ("/etc/outside", "no path below the project's folder"),
        ("cache/files/../../../outside", "no path below the project's folder"),
        ("operations/evil.py", "where no state has a file"),
        (".git/hooks/pre-commit", "where no state has a file"),
        ("cache/config", "where no state has a file"),
        ("models/weights.safetensors", "where no state has a file"),
    ],
)
def test_a_wrong_state_writes_nothing(
    project: Path, state: Path, clone: Path, monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    pack(state)
    path = object_path(state, hashlib.sha256(WEIGHTS).hexdigest())
    manifest = Manifest.read(state)
    if damage == "changed":
        path.unlink()
        path.write_bytes(b"wEights")
    elif damage == "missing":
        path.unlink()
    elif damage == "added":
        (state / "extra").touch()
    elif damage == "link":
        path.unlink()
        path.symlink_to("/etc/hostname")
    elif damage == "manifest":
        (state / "manifest.json").write_text("{}")
    else:
        evil = Kept(path=damage, sha256=hashlib.sha256(WEIGHTS).hexdigest(), size=len(WEIGHTS))
        changed = manifest.model_copy(update={"files": [*manifest.files, evil]})
        (state / "manifest.json").write_text(changed.model_dump_json())
    monkeypatch.chdir(clone)
    before = sorted(clone.rglob("*"))
    with pytest.raises(PipelineError, match=message):
        unpack(state)
    after = [path for path in sorted(clone.rglob("*")) if ".dvc/tmp" not in str(path)]  # DVC's own lock files
    assert after == before


def test_a_link_in_the_project_is_not_followed_out_of_it(
    project: Path, state: Path, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CHECKPOINTS.mkdir(parents=True)
    (CHECKPOINTS / "round-000004.safetensors").write_bytes(b"checkpoint")
    pack(state)
    monkeypatch.chdir(clone)
    CHECKPOINTS.mkdir(parents=True)
    (CHECKPOINTS / "round-000004.safetensors").symlink_to(tmp_path / "outside")
    with pytest.raises(PipelineError, match="is reached by a symbolic link"):
        unpack(state)
    assert not (tmp_path / "outside").exists()


def test_a_folder_that_is_no_state_is_not_replaced(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    for folder in (tmp_path / "mine", Path(), tmp_path):
        with pytest.raises(PipelineError, match="is no state, and would be replaced"):
            pack(folder)
    assert (tmp_path / "mine/thesis.txt").exists()


def test_a_registry_with_runs_of_its_own_is_not_replaced(
    project: Path, state: Path, clone: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def add_run() -> None:
        client = MlflowClient(f"sqlite:///{Path('mlflow.db').absolute()}")
        known = client.get_experiment_by_name("fedpipe-mnist")
        client.create_run(known.experiment_id if known else client.create_experiment("fedpipe-mnist"))

    shutil.copy(empty_database, "mlflow.db")
    shutil.copy(empty_database, clone)
    add_run()
    pack(state)
    monkeypatch.chdir(clone)
    unpack(state)  # the empty one is behind
    add_run()
    ours = Path("mlflow.db").read_bytes()
    assert unpack(state).notes == ["mlflow.db has all that the state has, and more: it stays"]
    monkeypatch.chdir(project)
    add_run()
    pack(state)
    monkeypatch.chdir(clone)
    with pytest.raises(PipelineError, match=r"mlflow\.db has runs, versions or aliases that the state has not"):
        unpack(state)
    assert Path("mlflow.db").read_bytes() == ours


def test_the_commands(project: Path, state: Path, clone: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(layout.__file__).parent)}

    def run(folder: Path, command: str) -> str:
        called = [sys.executable, "-m", "operations.retrain.kept", command, str(state)]
        return subprocess.run(called, cwd=folder, env=environment, capture_output=True, text=True, check=True).stderr

    assert "batches" in run(project, "pack") and "files of " in run(clone, "unpack")
