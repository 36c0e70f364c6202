"""A NumPy ``.npz`` archive as a data set: the arrays of Keras (x_train, ...) or of MedMNIST; never a pickle."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt
from numpy.lib import format as npy

from fedpipe.datasets.sources.fetch import say
from fedpipe.datasets.sources.label_form import check_label_form
from fedpipe.datasets.sources.npz_header import array_header
from fedpipe.datasets.sources.parts import LARGEST, Part
from fedpipe.errors import PipelineError

_NAMINGS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST's, which also has val_images, val_labels
)


def read_npz(path: Path, called: str, labels_are_numbers: bool = False) -> list[Part]:
    """The four arrays, in the order training images and labels, test images and labels.

    Labels of shape [n, 1] become [n], unless they are numbers.

    Args:
      path: The archive.
      called: What messages call it.
      labels_are_numbers: Whether labels are numbers, and not classes.

    Raises:
      PipelineError: It is no NPZ archive, lacks an array, or an array holds objects or another number of
        bytes than its header says; looked at before memory is taken for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist()]
            names = max(_NAMINGS, key=lambda naming: len({*naming} & {*held}))  # the first one if none fits
            missing = [name for name in names if name not in held]
            if missing:
                has = ", ".join(held[:10]) or "nothing"
                raise PipelineError(f"{called} has no array {' and no '.join(missing)}; it has {has}")
            if others := [name for name in held if name not in names]:
                say(f"{called} also holds {', '.join(others[:10])}, which are not used")
            labels = () if labels_are_numbers else names[1::2]
            return [Part(f"{name} of {called}", _read(archive, name, called, name in labels)) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise PipelineError(f"{called} is not an .npz archive, or it is cut short or damaged") from None
    except (NotImplementedError, RuntimeError):
        raise PipelineError(f"{called} is encrypted or packed in a way that NumPy does not write") from None


def _read(archive: zipfile.ZipFile, name: str, called: str, is_labels: bool) -> npt.NDArray[Any]:
    try:
        header = array_header(archive, name)
        if header.dtype.hasobject and is_labels:
            check_label_form(f"{name} of {called}", header.dtype, header.shape)
        if header.dtype.hasobject:
            raise PipelineError(f"{name} of {called} holds Python objects; allowed: numbers")
        if not header.is_whole or header.stored_bytes > LARGEST:
            raise PipelineError(
                f"{name} of {called} has {header.stored_bytes:,} bytes, but its header {header.shape} of "
                f"{header.dtype} asks for {header.expected_bytes:,} (at most {LARGEST:,})"
            )
        with archive.open(f"{name}.npy") as file:
            array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise PipelineError(f"{name} of {called} is no NumPy array: {error}") from None
    return array[:, 0] if is_labels and array.ndim == 2 and array.shape[1] == 1 else array
