"""A SQLite store that is read-only, locked or no store: every command says which, at once and in one line."""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import relocation, sqlite_store
from fedpipe.tracking.delivery import Unreachable
from fedpipe.tracking.past_runs import seconds_per_round
from tests.fedpipe.tracking.mlflow_project import EVALUATE, Project, fill


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Project:
    shutil.copy(empty_database, tmp_path)
    return fill(tmp_path)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """By the file's header (sqlite.org/fileformat.html, 1.3.3), since permissions do not hold root back."""
    content = bytearray(path.read_bytes())
    content[18] = 3
    path.write_bytes(content)
    yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is in the middle of a write."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin exclusive")
    yield
    connection.close()


@contextmanager
def no_database(path: Path) -> Iterator[None]:
    path.write_text("not a database, " * 100)
    yield


@contextmanager
def folder(path: Path) -> Iterator[None]:
    path.unlink()
    path.mkdir()
    yield


CONDITIONS: dict[str, tuple[Callable, str, str]] = {
    "read-only": (
        read_only,
        "cannot be written: it is read-only",
        "make the file and its folder readable",
    ),
    "locked": (locked, "is locked by another program", "end that program, or try again when it is done"),
    "no database": (no_database, "is no SQLite database", "move it away, or set MLFLOW_TRACKING_URI"),
    "a folder": (folder, "cannot be opened", "make the file and its folder readable"),
}


SLOW = [name for name in CONDITIONS if name != "read-only"]


@pytest.mark.parametrize("condition", ["read-only", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_run_is_kept_and_the_store_said_as_what_it_is(project: Project, condition: str) -> None:
    make, state, remedy = CONDITIONS[condition]
    project.environment["FEDPIPE_TRACKING_WAIT"] = "40"
    with make(project.path / "mlflow.db"):
        begin = time.monotonic()
        code, _, error = project.run("-c", EVALUATE)
        assert code == 0 and f"MLflow: {project.uri} {state}; the run continued, and its" in error, error
        assert len(project.pending()) == 1
        code, _, error = project.run("-m", "operations.sync")
        assert (code, error.count("\n")) == (1, 1), error
        assert f"{project.uri} {state}; 1 of 1 journals stay in" in error and remedy in error
        assert "cannot be reached" not in error and time.monotonic() - begin < 80


@pytest.mark.parametrize("condition", [name for name in CONDITIONS if name != "read-only"])
def test_what_only_reads_says_it_too(project: Project, condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, state, remedy = CONDITIONS[condition]
    monkeypatch.chdir(project.path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sqlite_store, "_PATIENCE_SECONDS", 0.2)
    with make(project.path / "mlflow.db"):
        for ask in (lambda: layout.registry().champion("mnist"), lambda: seconds_per_round("ab" * 32, layout.store())):
            with pytest.raises(PipelineError) as refused:
                ask()
            assert state in str(refused.value) and remedy in str(refused.value)


def filled(folder: Path, empty_database: Path) -> Project:
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return fill(folder)


def test_a_folder_may_have_any_name(tmp_path: Path, empty_database: Path) -> None:
    project = filled(tmp_path / "100%25 of what?x=1 #16", empty_database)
    code, _, error = project.run("-c", EVALUATE)
    assert code == 0 and f"in {project.uri}\n" in error, error
    assert sqlite_store.file_of(project.uri) == project.path / "mlflow.db"
    assert list(tmp_path.rglob("mlflow.db")) == [project.path / "mlflow.db"]
    assert len(list(project.path.glob("mlartifacts/**/a.png"))) == 1 and not project.pending()


def locations(database: Path) -> set[str]:
    """Every address of a folder of this machine that a store holds for the project."""
    with closing(sqlite3.connect(database)) as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        values = {str(value) for table in tables for row in store.execute(f"select * from {table}") for value in row}
    return {value for value in values if value.startswith("file:") and "mlartifacts" in value}


@pytest.mark.slow
def test_artifacts_follow_a_store_that_is_moved(tmp_path: Path, empty_database: Path) -> None:
    """A run of before keeps its files, a run of afterwards has its own here, and the move is said once."""
    old = filled(tmp_path / "old", empty_database)
    code, _, error = old.run("-c", EVALUATE)
    assert code == 0 and "was moved here" not in error, error
    moved = Project(old.path.rename(tmp_path / "moved"))
    _, error = moved.train(1).communicate(timeout=100)
    assert "MLflow: run" in error and not old.path.exists(), error
    log = (moved.path / "logs/tracking.log").read_text(encoding="utf-8")
    assert log.count(f"mlflow.db was moved here: its artifacts are looked for in {moved.path}/mlartifacts now") == 1
    assert all(address.startswith(moved.path.as_uri()) for address in locations(moved.path / "mlflow.db"))
    assert [len(moved.artifacts(run)) > 0 for run in moved.runs()] == [True, True]


def test_artifacts_that_stayed_behind_are_said(
    tmp_path: Path, empty_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = filled(tmp_path / "old", empty_database)
    assert project.run("-c", EVALUATE)[0] == 0
    (tmp_path / "alone").mkdir()
    alone = Path(shutil.move(project.path / "mlflow.db", tmp_path / "alone/mlflow.db"))
    kept = locations(alone)
    relocation.follow_folder(alone)
    assert locations(alone) == kept
    assert capsys.readouterr().err.endswith(
        f"another folder: move them to {alone.with_name('mlartifacts')} and they follow\n"
    )


@pytest.mark.slow
def test_the_ui_says_it(project: Project) -> None:
    with no_database(project.path / "mlflow.db"):
        code, out, error = project.run("-m", "operations.ui")
    assert (code, out, error.count("\n")) == (1, "", 1) and "is no SQLite database" in error


def test_a_store_that_another_process_opens_for_ever_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "_PATIENCE_SECONDS", 0.02)
    with (tmp_path / "mlflow.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unreachable) as refused, sqlite_store.opened_exclusively(tmp_path / "mlflow.db"):
            pass
    assert refused.value.predicate == "is locked by another program"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.lock").symlink_to("mlflow.db.lock")  # a circle, which holds root back, too
    with pytest.raises(Unreachable) as refused, sqlite_store.opened_exclusively(tmp_path / "mlflow.db"):
        pass
    assert refused.value.predicate.startswith(f"cannot be written: {tmp_path}/mlflow.db.lock cannot be opened (")
    assert os.strerror(40) in refused.value.predicate
