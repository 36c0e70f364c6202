"""The SQLite file that is MLflow's store without a server: opened by one process at a time, and its errors explained.

MLflow tries for 100 seconds to open a file that it cannot open. A short look before it says at once what is wrong.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fedpipe.system.locks import LockTaken, locked_file
from fedpipe.tracking.delivery import Unreachable

_PATIENCE_SECONDS = 5.0  # how long to wait for another program to release the file; SQLite's own default
_LOCKED = ("is locked by another program", "end that program, or try again when it is done")
_PERMISSIONS = "make the file and its folder readable and writable for this user, or set MLFLOW_TRACKING_URI"
# SQLite's words (sqlite.org/rescode.html): what to say of the store instead, and what to do.
_EXPLAINED = {
    "database is locked": _LOCKED,
    "database table is locked": _LOCKED,
    "readonly database": ("cannot be written: it is read-only", _PERMISSIONS),
    "unable to open database file": ("cannot be opened", _PERMISSIONS),
    "file is not a database": ("is no SQLite database", "move it away, or set MLFLOW_TRACKING_URI to another store"),
    "malformed": ("is damaged", "restore it from a backup, or move it away: the next run starts a new store"),
    "database or disk is full": ("cannot be written: the disk is full", "free some space"),
}


def file_of(uri: str) -> Path | None:
    """The file of a SQLite store, whose address may hold ``%20`` and the like; None for a server."""
    if urlsplit(uri).scheme != "sqlite":
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


def explained(text: str) -> Unreachable | None:
    """What an error's text means, if it is one of SQLite's about the whole file."""
    for words, (state, remedy) in _EXPLAINED.items():
        if words in text:
            return Unreachable(words, state, remedy)
    return None


@contextmanager
def opened_exclusively(path: Path) -> Iterator[None]:
    """Lets one process at a time open the store: the first makes its tables, which two at once do wrong.

    Raises:
      Unreachable: The file cannot be opened, or another program holds it.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(lock_path, 10 * _PATIENCE_SECONDS))  # another may be making the tables
        except LockTaken:
            raise Unreachable(f"{lock_path} is held", *_LOCKED) from None
        except OSError as error:
            state = f"cannot be written: {lock_path} cannot be opened ({error.strerror})"
            raise Unreachable(str(error.strerror), state, _PERMISSIONS) from error
        if path.exists():
            _require_readable(path)
        yield


def _require_readable(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise explained(str(error)) or Unreachable(str(error)) from error
