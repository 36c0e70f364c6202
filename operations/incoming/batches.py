"""What may lie in data/incoming/, and whether it is a batch.

week-12.npz                   images (or x) and labels (or y), uint8; clients (whole numbers or text), if there are any
week-12-images-idx3-ubyte     or an IDX pair (idx4 for images with channels)
week-12-labels-idx1-ubyte
week-12-clients-idx1-int      and the clients, if there are any: 32-bit integers, or unsigned bytes (-ubyte)
week-12.csv, week-12.parquet  or a table, where the data set is one, with the columns of its section
<each of these>.sha256        its SHA-256, as `sha256sum` writes it or bare
"""

import lzma
import re
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpipe.datasets.batch_file import Batch
from fedpipe.datasets.idx import read_labelled_images
from fedpipe.datasets.pool import BATCH_NAME
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.sources.label_form import check_label_form
from fedpipe.datasets.sources.npz_header import array_header
from fedpipe.errors import PipelineError
from fedpipe.evaluation.identity import sha256
from operations.incoming.batch_clients import KEY, SUFFIXES, as_names, check_header, read_idx_clients
from operations.incoming.batch_samples import read_samples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # images, labels, clients

HASH_SUFFIX = ".sha256"
_DATA_FILE = re.compile(
    r"(?P<name>.+)(?P<form>\.npz|\.csv|\.parquet|-images-idx[34]-ubyte|-labels-idx1-ubyte|-clients-idx1-(?:ubyte|int))"
)
_PAIRS = tuple({f"-images-idx{dimensions}-ubyte", "-labels-idx1-ubyte"} for dimensions in (3, 4))
_TABLES = ({".csv"}, {".parquet"})
_FORMS = ({".npz"}, *_TABLES, *_PAIRS, *(pair | {clients} for pair in _PAIRS for clients in SUFFIXES))
LARGEST = 1 << 30  # bytes of a file, and of an array before it was compressed: a batch is read into memory
ON_ITS_WAY = 3600.0  # seconds for which the rest of a batch is waited for
EXPECTED = (
    "NAME.npz, or NAME-images-idx3-ubyte (idx4 with channels), NAME-labels-idx1-ubyte and, where samples have clients, "
    "NAME-clients-idx1-int, each with its .sha256"
)
# Errors of a damaged, encrypted or hostile archive (RuntimeError: encrypted, or packed in a way that is not known).
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError)


@dataclass(frozen=True)
class Candidate:
    """Files that may be a batch."""

    name: str
    forms: dict[str, Path]  # suffix to file

    @property
    def files(self) -> list[Path]:
        """Everything that belongs to it, hashes included."""
        hashes = [_hash_file(path) for path in self.forms.values()]
        return [*self.forms.values(), *(path for path in hashes if path.exists())]

    def is_on_its_way(self, needs_clients: bool = False) -> bool:
        """Whether a file or a hash is still to come, and the newest of its files is not old yet."""
        forms = set(self.forms)
        is_whole = forms in _FORMS and all(_hash_file(path).exists() for path in self.forms.values())
        is_whole &= not (needs_clients and forms in _PAIRS)
        if is_whole or not any(forms <= form for form in _FORMS):
            return False
        return time.time() - max(path.stat().st_mtime for path in self.files) < ON_ITS_WAY


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + HASH_SUFFIX)


def batch_of(file: str) -> str | None:
    """The batch that a file of this name belongs to, if to any."""
    match = _DATA_FILE.fullmatch(file.removesuffix(HASH_SUFFIX))
    return match["name"] if match else None


def find(folder: Path) -> tuple[list[Candidate], list[Path]]:
    """The candidates in ``folder`` by name, and the files that are none.

    Hidden and half-written files are not seen yet; a hash waits for its file.
    """
    forms: dict[str, dict[str, Path]] = {}
    strays = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        is_file = path.is_file()
        if path.name.startswith(".") or path.name.endswith(".partial") or (is_file and path.name.endswith(HASH_SUFFIX)):
            continue
        match = _DATA_FILE.fullmatch(path.name) if is_file else None
        if match:
            forms.setdefault(match["name"], {})[match["form"]] = path
        else:
            strays.append(path)
    return [Candidate(name, forms[name]) for name in sorted(forms)], strays


def read(candidate: Candidate, dataset: RawDataset) -> Batch:
    """Reads and checks a batch for ``dataset``; it has at least one sample.

    Raises:
      PipelineError: It is not a batch of that data set; the message is the reason.
    """
    if not re.fullmatch(BATCH_NAME, candidate.name):
        raise PipelineError(
            f"the name '{candidate.name}' is not possible: letters, digits, dots, dashes and underscores, at most 100"
        )
    if set(candidate.forms) not in _FORMS:
        files = ", ".join(path.name for path in candidate.forms.values())
        raise PipelineError(f"there is {files}; a batch is either {EXPECTED}")
    for path in candidate.forms.values():
        _check_size(path.name, path.stat().st_size)
        _check_hash(path)
    if not dataset.kind.is_image:
        return read_samples(next(iter(candidate.forms.values())), dataset.kind)
    if set(candidate.forms) in _TABLES:
        raise PipelineError(f"it is a table; {dataset.name} has images, so a batch is {EXPECTED}")
    if npz := candidate.forms.get(".npz"):
        images, labels, clients = _read_npz(npz, dataset)
    else:
        images, labels, clients = _read_idx(candidate.forms)
        _check_image_shape(images.shape, dataset)
    if labels.max() >= dataset.classes:
        raise PipelineError(f"it has label {labels.max()}; {dataset.name} has labels 0 to {dataset.classes - 1}")
    return Batch(images, labels, None if clients is None else as_names(clients, len(labels)))


def _read_idx(forms: dict[str, Path]) -> Arrays:
    images, labels = sorted(form for form in forms if form not in SUFFIXES)
    clients = [read_idx_clients(path, form) for form, path in forms.items() if form in SUFFIXES]
    return *read_labelled_images(forms[images], forms[labels]), clients[0] if clients else None


def _check_size(called: str, size: int) -> None:
    if size > LARGEST:
        raise PipelineError(f"{called} has {size:,} bytes; at most {LARGEST:,} are read, so make several batches of it")


def _check_image_shape(images: tuple[int, ...], dataset: RawDataset) -> None:
    """Refuses images of shape [n, height, width] or [n, height, width, channels] that are not ``dataset``'s."""
    shape = images[1:] if len(images) == 4 else (*images[1:], 1)
    if shape != dataset.image_shape:
        raise PipelineError(
            f"it has images of {shape} (height, width, channels); {dataset.name} has {dataset.image_shape}"
        )


def _check_hash(path: Path) -> None:
    beside = _hash_file(path)
    try:
        with beside.open("rb") as file:
            words = file.read(1000).decode("ascii").split()
    except FileNotFoundError:
        raise PipelineError(f"{beside.name} is missing: make it with `sha256sum {path.name} > {beside.name}`") from None
    except UnicodeDecodeError:
        words = []
    if not words or not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
        raise PipelineError(f"{beside.name} does not start with a SHA-256 in hexadecimal")
    present = sha256(path)
    if present != words[0].lower():
        raise PipelineError(
            f"{path.name} has SHA-256 {present[:12]}…, but {beside.name} says {words[0][:12].lower()}…: "
            "it was damaged or cut short on its way"
        )


def _read_npz(path: Path, dataset: RawDataset) -> Arrays:
    """Reads an npz without unpickling anything, and looks at the headers before it takes memory for the content."""
    try:
        with zipfile.ZipFile(path) as archive:
            image_key, label_key, client_key = _keys(path, archive.namelist())
            _check_shapes(path, _shape(path, archive, image_key), _shape(path, archive, label_key, True), dataset)
            if client_key:
                header = array_header(archive, client_key)
                _check_size(f"{path.name}: {client_key}.npy", header.stored_bytes)
                check_header(f"{path.name}: {client_key}.npy", header)
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays[image_key], arrays[label_key]
            clients = arrays[client_key] if client_key else None
    except (*_BAD_ARCHIVE, ValueError, EOFError, OSError) as error:
        raise PipelineError(f"{path.name} is not a readable npz file: {error}") from None
    return images.reshape(*images.shape[:3], -1), labels, clients


def _shape(path: Path, archive: zipfile.ZipFile, key: str, is_labels: bool = False) -> tuple[int, ...]:
    """The shape of an array of an npz, by its header; none but uint8 are allowed."""
    called = f"{path.name}: {key}.npy"
    header = array_header(archive, key)
    _check_size(called, header.stored_bytes)
    if is_labels:
        check_label_form(called, header.dtype, header.shape)
    if header.dtype.hasobject:
        raise PipelineError(f"{called} holds Python objects (a pickle), which is refused")
    if header.dtype != np.uint8:
        raise PipelineError(f"{called} is {header.dtype}; uint8 is expected")
    if not header.is_whole:
        raise PipelineError(f"{called} is longer or shorter than its header {header.shape} says")
    return header.shape


def _keys(path: Path, members: Sequence[str]) -> tuple[str, str, str | None]:
    """The names of the arrays of images, labels and, if there are any, clients."""
    names = {name.removesuffix(".npy") for name in members}
    for images, labels in (("images", "labels"), ("x", "y")):
        if names - {KEY} == {images, labels} and len(members) == len(names):
            return images, labels, KEY if KEY in names else None
    held = ", ".join(sorted(names)[:10])
    raise PipelineError(
        f"{path.name} holds {held or 'nothing'}; images and labels (or x and y), and clients if there are any, are "
        "expected"
    )


def _check_shapes(path: Path, images: tuple[int, ...], labels: tuple[int, ...], dataset: RawDataset) -> None:
    if len(images) not in (3, 4) or len(labels) != 1:
        raise PipelineError(
            f"{path.name} has images of shape {images} and labels of shape {labels}; expected are "
            "[n, height, width] or [n, height, width, channels], and [n]"
        )
    if images[0] != labels[0]:
        raise PipelineError(f"{path.name} holds {images[0]} images, but {labels[0]} labels")
    if 0 in images:
        raise PipelineError(f"{path.name} is empty: its images have shape {images}")
    _check_image_shape(images, dataset)
