"""Write beside, then rename: an output is there whole, or it is not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".partial"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to, and renames it to ``path`` if the block succeeds.

    The folder is made when it is missing. If the block raises, the partial file is removed and ``path``
    stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + _SUFFIX)
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        _name(error, path)
        raise


def sync_folder(folder: Path) -> None:
    """Syncs to disk which files a folder has; not the files themselves.

    Raises:
      OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``path`` to fill, and puts it in the place of ``path`` if the block succeeds.

    If the block raises, the partial folder is removed and ``path`` stays as it was. A folder left by a
    killed run is cleared first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + _SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        old = path.with_name(path.name + ".old" + _SUFFIX)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        partial.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _name(error, path)
        raise


@contextmanager
def staged_files(folder: Path, index: str) -> Iterator[Path]:
    """Yields an empty folder to fill; if the block succeeds, its files go into ``folder``, over those of the same name.

    Other files of ``folder`` stay. If the block raises, ``folder`` stays as it was. The file ``index``, which says
    what the others are, goes first and comes last: whoever finds it finds all files that it speaks of.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + _SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        folder.mkdir(exist_ok=True)
        (folder / index).unlink(missing_ok=True)
        for file in sorted(partial.iterdir(), key=lambda file: (file.name == index, file.name)):
            file.replace(folder / file.name)
    except BaseException as error:
        _name(error, folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an error of the operating system that names no file name ``path``."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def _name(error: BaseException, path: Path) -> None:
    """A failed write says "no space left on device" but not where; this does."""
    if isinstance(error, OSError) and not error.filename:
        error.filename = str(path)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` as UTF-8, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
