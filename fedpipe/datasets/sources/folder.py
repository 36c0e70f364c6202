"""A source that is a local folder."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fedpipe.datasets.sources.published import DataFile
from fedpipe.datasets.sources.source import FileFailed, OpenFile, SourceFailed


@contextmanager
def folder(path: Path) -> Iterator[OpenFile]:
    """A folder that holds each file as it is or with ``.gz`` behind its name.

    Raises:
      SourceFailed: The folder does not exist.
    """
    try:
        exists = path.is_dir()
    except OSError as error:
        raise SourceFailed(f"the folder cannot be read: {error.strerror}") from None
    if not exists:
        raise SourceFailed("there is no such folder")
    yield partial(_open, path)


@contextmanager
def _open(path: Path, file: DataFile) -> Iterator[io.BufferedReader]:
    names = [f"{file.name}.gz", file.name]
    try:
        # is_file: opening a named pipe would wait for ever.
        existing = next((path / name for name in names if (path / name).is_file()), None)
        stream = existing.open("rb") if existing else None
    except OSError as error:
        raise FileFailed(f"{file.name} cannot be read: {error.strerror}") from None
    if stream is None:
        raise FileFailed(f"there is no {' or '.join(names)}")
    with stream:
        yield stream
