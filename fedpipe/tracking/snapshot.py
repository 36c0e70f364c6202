"""A copy of a SQLite store for the next machine: every run, and the files of those models that are still of use.

A run's metrics, params and tags are small, its weights and pictures are not. So the copy has all runs, and a version
whose files are left out is deleted in it as MLflow deletes one: its number is not used again, its run stays.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from fedpipe.errors import PipelineError
from fedpipe.tracking.champions import FORMER_TAG
from fedpipe.tracking.relocation import ARTIFACTS
from fedpipe.tracking.run_events import FILES_TAG, WEIGHTS_TAG
from fedpipe.tracking.sqlite_store import explained

_NOT_KEPT = "not kept: neither champion, challenger nor one of the former champions in 'state.former_champions'"
_OURS = "fedpipe-%"  # names of this project's experiments and registered models

# What MLflow 3.17 writes when a version or a logged model is deleted.
_DELETE_VERSION = """
    update model_versions set current_stage = 'Deleted_Internal', description = null, user_id = null,
    source = 'REDACTED-SOURCE-PATH', run_id = 'REDACTED-RUN-ID', run_link = 'REDACTED-RUN-LINK', status_message = null
    where run_id = ? and name like ?
"""
_PRESENT = "select version, run_id from model_versions where name = ? and current_stage != 'Deleted_Internal'"
_TAG_RUN = "insert or replace into tags (key, value, run_uuid) values (?, ?, ?)"
_DELETE_MODEL = "update logged_models set lifecycle_stage = 'deleted' where source_run_id = ?"


def snapshot(store: Path, target: Path, former_champions: int, weights: Collection[str]) -> list[Path]:
    """Copies a store that may be in use, and chooses the artifacts that go with the copy.

    Args:
      store: The SQLite file, which stays as it is.
      target: The copy; this file does not exist yet.
      former_champions: How many champions before the present one keep their files.
      weights: SHA-256 of weights whose runs keep their files.

    Returns:
      The files in the folder of artifacts beside ``store`` that the copy speaks of, relative to that folder.

    Raises:
      PipelineError: The store cannot be read, or the copy cannot be written.
    """
    with _opened(store) as database:
        database.execute("vacuum into ?", (str(target),))
    with _opened(target) as copy:
        if not _has_tables(copy):
            return []
        kept = _runs_of_champions(copy, former_champions) | _runs_of_weights(copy, weights)
        # A run without weights failed, or was killed and may be resumed.
        dropped = (_runs(copy) & _runs_with_weights(copy)) - kept
        folders = {folder for run in dropped for folder in _folders(copy, run)}
        with copy:
            for run in sorted(dropped):
                copy.execute(_DELETE_VERSION, (run, _OURS))
                copy.execute(_DELETE_MODEL, (run,))
                copy.execute(_TAG_RUN, (FILES_TAG, _NOT_KEPT, run))
    artifacts = store.with_name(ARTIFACTS)
    files = [path.relative_to(artifacts) for path in sorted(artifacts.rglob("*")) if path.is_file()]
    return [path for path in files if not any(path.is_relative_to(folder) for folder in folders)]


def compare(ours: Path, theirs: Path) -> Literal["same", "behind", "ahead", "apart"]:
    """How the registry and the runs of the store ``ours`` relate to those of ``theirs``.

    Returns:
      ``behind`` if ``theirs`` has all that ``ours`` has, and more; ``ahead`` if it is the other way round; ``apart``
      if each has something of its own, or the same versions with other aliases.

    Raises:
      PipelineError: One of them cannot be read.
    """
    (facts, aliases), (other_facts, other_aliases) = _facts(ours), _facts(theirs)
    if facts == other_facts:
        return "same" if aliases == other_aliases else "apart"
    return "behind" if facts < other_facts else "ahead" if facts > other_facts else "apart"


def _runs_of_champions(database: sqlite3.Connection, former_champions: int) -> set[str]:
    """The runs of the versions with an alias, and of the last former champions that are not deleted."""
    aliased = database.execute(
        "select v.run_id from registered_model_aliases a "
        "join model_versions v on a.name = v.name and a.version = v.version"
    )
    runs = {run for (run,) in aliased}
    tags = database.execute("select name, value from registered_model_tags where key = ?", (FORMER_TAG,)).fetchall()
    for name, value in tags:
        present = dict(database.execute(_PRESENT, (name,)))
        former = [number for number in json.loads(value) if number in present]
        runs |= {present[number] for number in former[max(len(former) - former_champions, 0) :]}
    return runs


def _runs_of_weights(database: sqlite3.Connection, weights: Collection[str]) -> set[str]:
    rows = database.execute("select run_uuid, value from tags where key = ?", (WEIGHTS_TAG,))
    return {run for run, value in rows if value in weights}


def _runs_with_weights(database: sqlite3.Connection) -> set[str]:
    return {run for (run,) in database.execute("select run_uuid from tags where key = ?", (WEIGHTS_TAG,))}


def _runs(database: sqlite3.Connection) -> set[str]:
    """The runs of this project's experiments."""
    rows = database.execute(
        "select run_uuid from runs join experiments using (experiment_id) where experiments.name like ?", (_OURS,)
    )
    return {run for (run,) in rows}


def _folders(database: sqlite3.Connection, run: str) -> Iterator[Path]:
    """The folders of a run's artifacts and models, relative to the folder of artifacts."""
    rows = database.execute(
        "select artifact_uri from runs where run_uuid = :run union "
        "select artifact_location from logged_models where source_run_id = :run",
        {"run": run},
    )
    for (address,) in rows:
        _, separator, inner = unquote(address or "").rpartition(f"/{ARTIFACTS}/")
        if separator and inner:
            yield Path(inner)


def _facts(store: Path) -> tuple[set[tuple[object, ...]], set[tuple[object, ...]]]:
    """Runs, versions and which tags versions have; and the aliases."""
    with _opened(store) as database:
        if not _has_tables(database):
            return set(), set()
        facts: set[tuple[object, ...]] = {("run", run) for run in _runs(database)}
        facts |= set(database.execute("select 'version', name, version from model_versions"))
        facts |= set(database.execute("select 'tag', name, version, key from model_version_tags"))
        return facts, set(database.execute("select name, alias, version from registered_model_aliases"))


def _has_tables(database: sqlite3.Connection) -> bool:
    return bool(database.execute("select 1 from sqlite_master where name = 'logged_models'").fetchone())


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(store)) as database:
            yield database
    except sqlite3.Error as error:
        unreachable = explained(str(error))
        reason = f"{unreachable.predicate}: {unreachable.remedy}" if unreachable else f"cannot be used ({error})"
        raise PipelineError(f"{store} {reason}") from None
