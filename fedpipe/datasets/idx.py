"""The IDX format, in which MNIST and its relatives are published: a header with the shape, then the bytes.

Big endian: two zero bytes, the element type, the number of dimensions, each dimension as 32 bits, then the
elements, last dimension fastest.
"""

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fedpipe.errors import PipelineError

_UNSIGNED_BYTE = 0x08
_OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_CODES = {"uint8": _UNSIGNED_BYTE, "int32": 0x0C, "float32": 0x0D}  # of the types that data sets have
_MOST_DIMENSIONS = 8


def read_idx(path: Path, called: str | None = None, kind: str = "uint8") -> npt.NDArray[Any]:
    """Reads an uncompressed IDX file.

    Args:
      path: The file.
      called: What messages call it, if not by its path.
      kind: The type of its numbers: uint8, int32 or float32.

    Returns:
      An array of that type with the header's shape: (samples, rows, columns) for images, (samples,) for labels.

    Raises:
      PipelineError: The file is missing, is no IDX file of that type, or is longer or shorter than its header says;
        the message names the file.
    """
    name, stored = called or str(path), np.dtype(kind).newbyteorder(">")
    try:
        with path.open("rb") as file:
            shape = _read_shape(name, file, kind)
            expected = file.tell() + math.prod(shape) * stored.itemsize
            size = path.stat().st_size
            # Before reading: a lying header must not cost memory.
            if size != expected:
                raise PipelineError(f"{name} has {size} bytes, but its header {shape} asks for {expected}")
            return np.fromfile(file, stored).astype(kind, copy=False).reshape(shape)
    except FileNotFoundError:
        raise PipelineError(f"{name} is missing; `dvc repro` makes it") from None


def write_idx(path: Path, array: npt.NDArray[Any]) -> None:
    """Writes ``array`` (uint8, int32 or float32) as an uncompressed IDX file; equal arrays give equal files."""
    header = bytes([0, 0, _CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    with path.open("wb") as file:
        file.write(header)
        np.ascontiguousarray(array, array.dtype.newbyteorder(">")).tofile(file)


def _read_shape(name: str, file: BinaryIO, kind: str) -> tuple[int, ...]:
    """The dimensions of a file of such numbers; leaves ``file`` at the first element."""
    if kind != "uint8":
        return _read_shape_of(name, file, kind)
    magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        raise PipelineError(f"{name} is gzipped; an uncompressed IDX file is expected")
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _OTHER_TYPES:
        raise PipelineError(
            f"{name} is no IDX file of unsigned bytes: it holds {_OTHER_TYPES[magic[2]]}; store pixels as integers "
            "from 0 to 255, and labels as integers from 0 to classes - 1, both as unsigned bytes"
        )
    if len(magic) < 4 or magic[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise PipelineError(f"{name} is no IDX file of unsigned bytes: it starts with {_hex(magic)}, not 00 00 08")
    return _read_dimensions(name, file, magic[3])


def _read_shape_of(name: str, file: BinaryIO, kind: str) -> tuple[int, ...]:
    """The dimensions of a file that a stage wrote."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != bytes([0, 0, _CODES[kind]]):
        raise PipelineError(f"{name} is no IDX file of {kind}: run the download stage again")
    return _read_dimensions(name, file, magic[3])


def _read_dimensions(name: str, file: BinaryIO, dimensions: int) -> tuple[int, ...]:
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise PipelineError(f"{name} has {dimensions} dimensions; allowed: 1 to {_MOST_DIMENSIONS}")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise PipelineError(f"{name} ends inside its header of {4 + 4 * dimensions} bytes")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise PipelineError(f"{name} is empty: its header says {shape}")
    return shape


def _hex(some: bytes) -> str:
    return some.hex(" ") or "nothing"


def read_labelled_images(images: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Reads images with their labels.

    Returns:
      Images uint8 [n, height, width, channels] (one channel for a file without that dimension), labels uint8 [n].

    Raises:
      PipelineError: A file is not such a file, or they do not hold the same number of samples.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim not in (3, 4) or classes.ndim != 1:
        raise PipelineError(
            f"{images} must have 3 or 4 dimensions, not {pixels.ndim}, and {labels} 1, not {classes.ndim}"
        )
    if len(pixels) != len(classes):
        raise PipelineError(f"{images} holds {len(pixels)} samples, but {labels} {len(classes)}")
    return as_images(pixels), classes


def as_images(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images [n, height, width] or [n, height, width, channels] with their axis of channels."""
    return pixels.reshape(*pixels.shape[:3], -1)
