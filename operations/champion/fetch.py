"""Fetching a champion's card and weights from wherever they are."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fedpipe.errors import PipelineError
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.run_events import sha256
from operations import github
from operations.champion.card import CARD, WEIGHTS, Card

ARTIFACT = "champion"  # in GitHub, of a run of retrain.yml
_PREFIXES = ("", "champion/")  # where the card is in a folder or archive
_LARGEST = {CARD: 16 * 2**20, WEIGHTS: 8 * 2**30}  # bytes


def shown(source: str) -> str:
    """``source`` without secrets that a registry, a card or a log should not hold: user, password, and a signature."""
    return without_password(source.partition("?")[0]) if "://" in source else source


@contextmanager
def fetched(source: str) -> Iterator[tuple[Card, Path]]:
    """The card and the file of weights, which is one of the card's SHA-256, for as long as the block lasts.

    Nothing else is read: the MLflow model beside them holds code, and is made anew here.

    Args:
      source: A folder; a .zip, such as GitHub's artifact; the URL of either, for fsspec; or the number of a GitHub run.

    Raises:
      PipelineError: There is nothing of the kind, it cannot be read, or it is damaged.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _copy(source, folder)
        card = Card.read(folder / CARD, shown(source))
        digest = sha256(folder / WEIGHTS)
        if digest != card.weights_sha256:
            raise PipelineError(
                f"the weights in {shown(source)} have the SHA-256 {digest[:12]}…, but its card names "
                f"{card.weights_sha256[:12]}…: fetch it again, or have it written again by `make champion`"
            )
        yield card, folder / WEIGHTS


def _copy(source: str, folder: Path) -> None:
    path = Path(source)
    if "://" in source:
        _copy_url(source, folder)
    elif path.is_dir():
        _copy_folder(path, folder)
    elif path.is_file():
        _copy_archive(path, folder, source)
    elif source.isdecimal():
        _copy_folder(_download_artifact(source, folder), folder)
    else:
        raise PipelineError(
            f"there is no {source}: FROM should be a folder or .zip that `make champion` wrote, its URL, or the number "
            "of a GitHub run"
        )


def _copy_folder(source: Path, folder: Path) -> None:
    for prefix in _PREFIXES:
        if (source / prefix / CARD).is_file():
            for name in _LARGEST:
                try:
                    with (source / prefix / name).open("rb") as file:
                        _save(file, folder / name)
                except OSError as error:
                    raise PipelineError(f"{source / prefix / name} cannot be read: {error.strerror}") from None
            return
    raise PipelineError(f"{source} has no {CARD}: it is no champion that `make champion` wrote")


def _copy_archive(archive: Path, folder: Path, source: str) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            prefix = next((p for p in _PREFIXES if p + CARD in opened.namelist()), None)
            if prefix is None:
                raise PipelineError(f"{source} has no {CARD}: it is no champion that `make champion` wrote")
            for name in _LARGEST:
                with opened.open(prefix + name) as file:
                    _save(file, folder / name)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise PipelineError(f"{source} is no whole .zip of a champion ({error})") from None


def _copy_url(url: str, folder: Path) -> None:
    # fsspec's back ends raise errors of their own kinds, all of them from these.
    import fsspec  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    is_archive = url.partition("?")[0].endswith(".zip")
    archive = folder / "archive.zip"
    names = {url: archive} if is_archive else {f"{url.rstrip('/')}/{name}": folder / name for name in _LARGEST}
    try:
        for address, path in names.items():
            with fsspec.open(address, "rb") as file:
                _save(file, path)
    except (OSError, ValueError, ImportError, BotoCoreError, ClientError) as error:
        reason = str(error).replace(url, shown(url)) or type(error).__name__
        raise PipelineError(f"cannot fetch a champion from {shown(url)}: {without_password(reason)}") from None
    if is_archive:
        _copy_archive(archive, folder, shown(url))
        archive.unlink()


def _download_artifact(run: str, folder: Path) -> Path:
    """The folder of the artifact of a GitHub run, fetched by GitHub's ``gh``."""
    target = folder / "artifact"
    try:
        github.gh("run", "download", run, "--name", ARTIFACT, "--dir", str(target))
    except PipelineError as error:
        raise PipelineError(
            f"the artifact {ARTIFACT} of run {run} cannot be downloaded: {error} (you can also download it in a "
            "browser and name its .zip as FROM)"
        ) from None
    return target


def _save(file: IO[bytes], path: Path) -> None:
    """Copies what is not larger than card, weights, or an archive of both may be: an archive may claim anything."""
    limit = _LARGEST.get(path.name, sum(_LARGEST.values()))
    with path.open("wb") as copy:
        while part := file.read(2**20):
            if copy.tell() + len(part) > limit:
                raise PipelineError(f"{path.name} is larger than {limit:,} bytes, so it is no champion's")
            copy.write(part)
