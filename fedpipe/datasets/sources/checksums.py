"""Nothing counts as downloaded until its size and SHA-256 are the pinned ones."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from fedpipe.atomic import atomic_file
from fedpipe.datasets.sources.published import DataFile
from fedpipe.datasets.sources.source import FileFailed

_BLOCK = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"


def is_whole(path: Path, file: DataFile) -> bool:
    """Whether ``path`` is a file with exactly the pinned bytes."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def store(stream: io.BufferedReader, file: DataFile, target: Path) -> None:
    """Copies ``stream``, uncompressed, to ``target``, which appears only if every byte is as pinned.

    Args:
      stream: The file's bytes as the source has them, gzipped or not.
      file: The required bytes, by SHA-256.
      target: Where they go, written atomically; the former file stays if this fails.

    Raises:
      FileFailed: The bytes are not those of ``file``; never more than its size is written.
      SourceFailed: From the stream itself, when its source stops working.
    """
    digest, length = hashlib.sha256(), 0
    # disable=None: a bar on a terminal, nothing in a log file.
    bar = tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, leave=False, disable=None)
    with bar, atomic_file(target) as partial, partial.open("wb") as out:
        for block in _uncompressed(stream, file):
            length += len(block)
            if length > file.size:
                raise FileFailed(f"{file.name} is longer than {file.size} bytes")
            digest.update(block)
            out.write(block)
            bar.update(len(block))
        if length < file.size:
            raise FileFailed(f"{file.name} has {length} bytes, expected {file.size}")
        if digest.hexdigest() != file.sha256:
            actual, expected = digest.hexdigest()[:12], file.sha256[:12]
            raise FileFailed(f"SHA-256 of {file.name} is {actual}..., expected {expected}...")


def _uncompressed(stream: io.BufferedReader, file: DataFile) -> Iterator[bytes]:
    """Blocks of at most `_BLOCK` bytes, however much a gzip stream would unfold to.

    What is gzip is seen from its first bytes: servers and folders disagree about names and headers, and
    an IDX file starts with two zeros.
    """
    source: io.BufferedReader | gzip.GzipFile = stream
    try:
        if stream.peek(2)[:2] == _GZIP_MAGIC:
            source = gzip.GzipFile(fileobj=stream)
        while block := source.read(_BLOCK):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise FileFailed(f"the gzip data of {file.name} is cut short or damaged") from None
    except OSError as error:
        raise FileFailed(f"{file.name} cannot be read: {error.strerror or error}") from None
