"""A NumPy ``.npz`` archive as a data set: the arrays x_train, y_train, x_test and y_test; never a pickle."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt
from numpy.lib import format as npy

from fedpipe.datasets.sources.label_form import check_label_form
from fedpipe.datasets.sources.npz_header import array_header
from fedpipe.datasets.sources.parts import LARGEST, Part
from fedpipe.errors import PipelineError

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path, called: str) -> list[Part]:
    """The four arrays, in the order training images and labels, test images and labels.

    Labels of shape [n, 1] become [n].

    Args:
      path: The archive.
      called: What messages call it.

    Raises:
      PipelineError: It is no such archive, lacks an array, or an array holds objects or another number of
        bytes than its header says; looked at before memory is taken for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _ARRAYS if f"{name}.npy" not in archive.namelist()]
            if missing:
                has = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:10]) or "nothing"
                raise PipelineError(f"{called} has no array {' and no '.join(missing)}; it has {has}")
            return [Part(f"{name} of {called}", _read(archive, name, called)) for name in _ARRAYS]
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise PipelineError(f"{called} is not an .npz archive, or it is cut short or damaged") from None
    except (NotImplementedError, RuntimeError):
        raise PipelineError(f"{called} is encrypted or packed in a way that NumPy does not write") from None


def _read(archive: zipfile.ZipFile, name: str, called: str) -> npt.NDArray[Any]:
    try:
        header = array_header(archive, name)
        if header.dtype.hasobject and name.startswith("y"):
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
    return array[:, 0] if name.startswith("y") and array.ndim == 2 and array.shape[1] == 1 else array
