"""A source that is a Debian package: for machines whose apt reaches a Debian archive.

It needs no root and installs nothing.
"""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from fedpipe.config import Download
from fedpipe.datasets.sources.archive import open_member, open_tar
from fedpipe.datasets.sources.command import TIME_LIMIT, run
from fedpipe.datasets.sources.published import DataFile
from fedpipe.datasets.sources.source import FileFailed, OpenFile, SourceFailed


@contextmanager
def apt_package(spec: str, limits: Download, time_limit: float = TIME_LIMIT) -> Iterator[OpenFile]:
    """The files of the Debian package ``spec``, wherever in it they lie, gzipped or not.

    Args:
      spec: The package's name, also with ``=version``.
      limits: Seconds that apt waits for its archive.
      time_limit: Seconds for each of the two commands.

    Raises:
      SourceFailed: apt-get or dpkg-deb is not installed, fails, or takes too long; so it is where apt knows no
        such package, or nobody has run ``apt-get update`` yet.
    """
    wait = f"{max(1, round(limits.read_timeout))}"  # seconds
    options = ["-qq", "-o", f"Acquire::http::Timeout={wait}", "-o", f"Acquire::https::Timeout={wait}"]
    with tempfile.TemporaryDirectory(prefix="fedpipe-apt-") as name:
        folder = Path(name)
        run(["apt-get", "download", *options, spec], folder, _gist, time_limit)
        tar = folder / "package.tar"
        run(["dpkg-deb", "--fsys-tarfile", str(_package(folder))], folder, _gist, time_limit, output=tar)
        with open_tar(tar) as archive:
            yield partial(_open, archive)


def _gist(output: str) -> str:
    """The first error, without the warnings before it and the ``E: `` of apt."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("E:").strip() for line in lines if line.startswith("E:")]
    return (errors or lines or [""])[0]


def _package(folder: Path) -> Path:
    packages = sorted(folder.glob("*.deb"))
    if len(packages) != 1:
        raise SourceFailed(f"apt-get download left {len(packages)} packages, expected 1")
    return packages[0]


def _open(archive: tarfile.TarFile, file: DataFile) -> AbstractContextManager[io.BufferedReader]:
    names = (f"{file.name}.gz", file.name)
    try:
        inside = sorted(member for member in archive.getnames() if PurePosixPath(member).name in names)
    except tarfile.TarError as error:
        raise SourceFailed(f"the package is not a readable tar file: {error}") from None
    if not inside:
        raise FileFailed(f"there is no {' or '.join(names)} in the package")
    return open_member(archive, inside[0])
