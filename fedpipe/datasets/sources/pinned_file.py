"""A file of the user's own, from a path or an address, copied and compared with its SHA-256 in params.yaml."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fedpipe.config import Download
from fedpipe.config.download import PinnedFile
from fedpipe.datasets.sources.addresses import web_or_path, without_password
from fedpipe.datasets.sources.parts import LARGEST
from fedpipe.datasets.sources.source import FileFailed, SourceFailed
from fedpipe.datasets.sources.web import web_file
from fedpipe.errors import PipelineError

_BLOCK = 1 << 20


def called(key: str, file: PinnedFile) -> str:
    """A file's name in messages: its ``key`` below `download`, and its source."""
    return f"params.yaml: 'download.{key}' ({without_password(file.source)})"


@contextmanager
def pinned(file: PinnedFile, called: str, limits: Download, folder: Path) -> Iterator[Path]:
    """A copy of ``file`` below ``folder``, for as long as the block runs; its SHA-256 is the pinned one.

    A failed block leaves it to the folder's owner (`staged_files`) to clear up.
    """
    copy = folder / "source"
    digest = hashlib.sha256()
    try:
        with _open(file.source, limits) as stream, copy.open("wb") as out:
            while block := stream.read(_BLOCK):
                digest.update(block)
                out.write(block)
                if out.tell() > LARGEST:
                    raise FileFailed(f"the file is longer than {LARGEST:,} bytes")
    except (FileFailed, SourceFailed) as failed:
        raise PipelineError(f"{called}: {failed}") from None
    if digest.hexdigest() != file.sha256:
        raise PipelineError(f"{called} has SHA-256 {digest.hexdigest()}, not {file.sha256}")
    yield copy
    for leftover in folder.glob("source*"):
        leftover.unlink()


def _open(source: str, limits: Download) -> AbstractContextManager[io.BufferedReader]:
    place = web_or_path(source)
    if isinstance(place, Path):
        return _open_path(place)
    if place:
        return web_file(place, LARGEST, limits)
    raise SourceFailed("the source is of no known kind; allowed: http://..., https://..., file:///..., or a path")


@contextmanager
def _open_path(path: Path) -> Iterator[io.BufferedReader]:
    try:
        # is_file: opening a named pipe would wait for ever.
        stream = path.open("rb") if path.is_file() else None
    except OSError as error:
        raise FileFailed(f"it cannot be read: {error.strerror}") from None
    if stream is None:
        raise FileFailed("there is no such file")
    with stream:
        yield stream
