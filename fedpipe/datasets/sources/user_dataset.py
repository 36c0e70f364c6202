"""Dataset ``idx``: a user data set, each file by path or address and with its SHA-256."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from fedpipe.config import Download
from fedpipe.config.download import IdxFiles, PinnedFile, UserDataset
from fedpipe.datasets.idx import as_images, read_idx, write_idx
from fedpipe.datasets.raw import describe
from fedpipe.datasets.sources.agreed import agreed_description
from fedpipe.datasets.sources.arrays import write_arrays
from fedpipe.datasets.sources.fetch import say
from fedpipe.datasets.sources.npz import read_npz
from fedpipe.datasets.sources.parts import LARGEST, Part, validate
from fedpipe.datasets.sources.pinned_file import called, pinned
from fedpipe.datasets.sources.published import TEST, TRAIN
from fedpipe.datasets.sources.standard import standard_of
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
    parts = list(_parts(dataset, limits, folder))
    if not dataset.is_of_images:
        write_arrays(dataset, limits.standardise, parts, folder, agreed_description(limits, folder))
        return
    arrays = validate(parts)
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
    standard = None if limits.standardise is None else standard_of(limits.standardise, as_images(arrays[0]))
    describe(folder, dataset.name, TRAIN, TEST, dataset.classes, standard)


def _parts(dataset: UserDataset, limits: Download, folder: Path) -> Iterator[Part]:
    """Training images and labels, test images and labels; params made sure that there is one form of them."""
    if dataset.npz is not None:
        npz = called("idx.npz", dataset.npz)
        with pinned(dataset.npz, npz, limits, folder) as path:
            yield from read_npz(path, npz, dataset.labels == "numbers")
    if dataset.files is not None:
        for name in IdxFiles.model_fields:
            yield _read(name, getattr(dataset.files, name), limits, folder)


def _read(name: str, file: PinnedFile, limits: Download, folder: Path) -> Part:
    """One of the four IDX files."""
    what = called(f"idx.files.{name}", file)
    with pinned(file, what, limits, folder) as path:
        with path.open("rb") as content:
            gzipped = content.read(2) == _GZIP_MAGIC
        return Part(what, read_idx(_unzip(path, what) if gzipped else path, what))


def _unzip(path: Path, what: str) -> Path:
    """The uncompressed file beside ``path``."""
    out = path.with_suffix(".idx")
    try:
        with gzip.open(path) as packed, out.open("wb") as unpacked:
            while block := packed.read(_BLOCK):
                unpacked.write(block)
                if unpacked.tell() > LARGEST:
                    raise PipelineError(f"{what} unfolds to more than {LARGEST:,} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise PipelineError(f"{what} is gzip data that is cut short or damaged") from None
    return out
