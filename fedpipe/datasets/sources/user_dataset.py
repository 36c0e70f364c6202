"""Dataset ``idx``: a user data set, each file by path or address and with its SHA-256."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fedpipe.config import Download
from fedpipe.config.download import IdxFiles, PinnedFile, UserDataset
from fedpipe.datasets.idx import read_idx, write_idx
from fedpipe.datasets.raw import describe
from fedpipe.datasets.sources.addresses import web_or_path, without_password
from fedpipe.datasets.sources.fetch import say
from fedpipe.datasets.sources.npz import read_npz
from fedpipe.datasets.sources.parts import LARGEST, Part, check
from fedpipe.datasets.sources.published import TEST, TRAIN
from fedpipe.datasets.sources.source import FileFailed, SourceFailed
from fedpipe.datasets.sources.web import web_file
from fedpipe.errors import PipelineError

_BLOCK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def write_user_dataset(dataset: UserDataset, limits: Download, folder: Path) -> None:
    """Writes the data set's four IDX files and its description into ``folder``.

    Args:
      dataset: Its files.
      limits: Seconds to wait for a connection, and for the next byte.
      folder: An empty folder.

    Raises:
      PipelineError: A file cannot be had, has another SHA-256, or does not hold what it should; the message
        names its key in params.yaml and its source.
    """
    arrays = check(list(_parts(dataset, limits, folder)))
    if lowest := int(min(arrays[1].min(), arrays[3].min())):
        say(
            f"{dataset.name}: labels begin with {lowest}, so class 0 has no sample; to begin with 0, store y - {lowest}"
        )
    for name, array in zip((TRAIN.images, TRAIN.labels, TEST.images, TEST.labels), arrays, strict=True):
        write_idx(folder / name, array)
    highest = int(max(arrays[1].max(), arrays[3].max()))
    if dataset.classes is not None and highest >= dataset.classes:
        raise PipelineError(
            f"params.yaml: 'download.idx.classes' is {dataset.classes}, and {dataset.name} has label {highest}: "
            f"labels are 0 to classes - 1, so set it to {highest + 1} or more, as all sites of a federation do"
        )
    describe(folder, dataset.name, TRAIN, TEST, dataset.classes)


def _parts(dataset: UserDataset, limits: Download, folder: Path) -> Iterator[Part]:
    """Training images and labels, test images and labels; params made sure that there is one form of them."""
    if dataset.npz is not None:
        with _pinned(dataset.npz, "npz", limits, folder) as path:
            yield from read_npz(path, _called("npz", dataset.npz))
    if dataset.files is not None:
        for name in IdxFiles.model_fields:
            yield _read(name, getattr(dataset.files, name), limits, folder)


def _called(name: str, file: PinnedFile) -> str:
    return f"params.yaml: 'download.idx.{name}' ({without_password(file.source)})"


def _read(name: str, file: PinnedFile, limits: Download, folder: Path) -> Part:
    """One of the four IDX files."""
    key = f"files.{name}"
    called = _called(key, file)
    with _pinned(file, key, limits, folder) as path:
        with path.open("rb") as content:
            gzipped = content.read(2) == _GZIP_MAGIC
        return Part(called, read_idx(_unzip(path, called) if gzipped else path, called))


@contextmanager
def _pinned(file: PinnedFile, key: str, limits: Download, folder: Path) -> Iterator[Path]:
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
        raise PipelineError(f"{_called(key, file)}: {failed}") from None
    if digest.hexdigest() != file.sha256:
        raise PipelineError(f"{_called(key, file)} has SHA-256 {digest.hexdigest()}, not {file.sha256}")
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


def _unzip(path: Path, called: str) -> Path:
    """The uncompressed file beside ``path``."""
    out = path.with_suffix(".idx")
    try:
        with gzip.open(path) as packed, out.open("wb") as unpacked:
            while block := packed.read(_BLOCK):
                unpacked.write(block)
                if unpacked.tell() > LARGEST:
                    raise PipelineError(f"{called} unfolds to more than {LARGEST:,} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise PipelineError(f"{called} is gzip data that is cut short or damaged") from None
    return out
