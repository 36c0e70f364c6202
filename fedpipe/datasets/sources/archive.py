"""A package's tar file, read member by member; nothing of it is ever unpacked to a path of its choosing."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpipe.datasets.sources.source import FileFailed, SourceFailed

LARGEST_TAR = 1 << 28  # bytes, uncompressed; far above the data sets, far below a full disk
_BLOCK = 1 << 20


def copy_bounded(read: Callable[[int], bytes], tar: Path) -> None:
    """Copies a stream to ``tar``.

    Raises:
      SourceFailed: It is longer than any data set's package.
    """
    with tar.open("wb") as out:
        while block := read(_BLOCK):
            out.write(block)
            if out.tell() > LARGEST_TAR:
                raise SourceFailed(f"the package unfolds to more than {LARGEST_TAR} bytes")


def open_tar(tar: Path) -> tarfile.TarFile:
    """Opens an uncompressed tar file.

    Raises:
      SourceFailed: It is no tar file.
    """
    try:
        return tarfile.open(tar, "r:")
    except tarfile.TarError as error:
        raise SourceFailed(f"the package is not a readable tar file: {error}") from None


@contextmanager
def open_member(archive: tarfile.TarFile, member: str) -> Iterator[io.BufferedReader]:
    """The bytes of one file of ``archive``.

    Raises:
      FileFailed: There is no file of that name.
      SourceFailed: The archive is damaged.
    """
    try:
        stream = archive.extractfile(member)
    except KeyError:
        stream = None
    except tarfile.TarError as error:
        raise SourceFailed(f"the package is not a readable tar file: {error}") from None
    if stream is None:
        raise FileFailed(f"there is no file {member} in the package")
    with stream:
        # extractfile promises IO[bytes] and gives a buffered reader.
        yield stream  # type: ignore[misc]
