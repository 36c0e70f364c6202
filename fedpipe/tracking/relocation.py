"""A SQLite store whose folder was moved, or restored on another machine: its artifact locations follow it.

MLflow stores them as absolute addresses, so new models would go to the old folder, and old ones would be missing.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fedpipe.tracking.sqlite_store import explained

ARTIFACTS = "mlartifacts"  # the folder beside the store
# Where MLflow 3.17 stores an address of an artifact.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow_folder(store: Path) -> None:
    """Replaces the old folder by the store's own in all addresses, and says so; nothing if the store has not moved.

    Only addresses that end in ``mlartifacts`` are meant: others were chosen by somebody. If the artifacts are still in
    the old folder and none are here, they stay there, and a line reports it.

    Raises:
      Unreachable: The store cannot be read or written.
    """
    here = store.with_name(ARTIFACTS)
    try:
        with closing(sqlite3.connect(store)) as database:
            for address in _addresses(database):
                old = Path(unquote(urlsplit(address).path))
                if old.resolve() == here.resolve():
                    continue
                if old.is_dir() and not here.is_dir():
                    _say(f"{store} keeps its artifacts in {old}, another folder: move them to {here} and they follow")
                    continue
                _replace(database, address, here.as_uri())
                _say(f"{store} was moved here: its artifacts are looked for in {here} now, not in {old}")
    except sqlite3.Error as error:
        if unreachable := explained(str(error)):
            raise unreachable from error
        raise


def _addresses(database: sqlite3.Connection) -> list[str]:
    """The folders of artifacts of this project's experiments."""
    if not database.execute("select 1 from sqlite_master where name = 'experiments'").fetchone():
        return []
    rows = database.execute("select distinct artifact_location from experiments where name like 'fedpipe-%'")
    return sorted(row[0] for row in rows if row[0] and row[0].startswith("file:") and row[0].endswith(f"/{ARTIFACTS}"))


def _replace(database: sqlite3.Connection, old: str, new: str) -> None:
    with database:
        for table, column in _COLUMNS:
            database.execute(
                f"update {table} set {column} = :new || substr({column}, length(:old) + 1) "
                f"where {column} = :old or substr({column}, 1, length(:old) + 1) = :old || '/'",
                {"old": old, "new": new},
            )


def _say(line: str) -> None:
    print(f"MLflow: {line}", file=sys.stderr, flush=True)
