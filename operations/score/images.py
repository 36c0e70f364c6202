"""PNG files as a model takes them; anything that would have to be converted is refused with what would be right."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from fedpipe.errors import PipelineError

# PNG specification (W3C, third edition), section 11.2.1: the header's colour types, and samples per pixel.
_COLOUR_TYPES = {0: "gray", 2: "RGB", 3: "a palette", 4: "gray with alpha", 6: "RGB with alpha"}
_COLOUR_TYPE_OF_CHANNELS = {1: 0, 2: 4, 3: 2, 4: 6}
_BIT_DEPTH = 8
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8s4x4sIIBB")  # signature, length, "IHDR", width, height, bit depth, colour type


class Unusable(Exception):
    """A file that cannot be scored; the text names its fault and the remedy."""


def list_images(folder: Path) -> list[Path]:
    """The PNG files of ``folder`` (not of folders in it), sorted by name.

    Raises:
      PipelineError: The folder does not exist, or has no PNG file.
    """
    if not folder.is_dir():
        raise PipelineError(f"'{folder}' is no folder: name the one that holds the PNG files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and path.is_file())
    if not files:
        raise PipelineError(f"{folder} holds no file whose name ends in .png")
    return files


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a PNG file with 8 bits per sample as uint8 [height, width, channels].

    Args:
      path: The file.
      shape: Height, width and channels that the model takes.

    Raises:
      Unusable: It is damaged, no PNG file, or of another size, depth or kind of pixel.
      PipelineError: No PNG file can be right for this shape.
    """
    try:
        with path.open("rb") as file:
            _check_header(file.read(_HEADER.size), shape)
        # Pillow decodes a damaged image without an error; `verify` compares the checksums, and ends the object's use.
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            if "transparency" in image.info:
                raise Unusable("has a transparent colour; pixels without transparency are expected")
            return np.asarray(image).reshape(shape)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three
        raise Unusable(f"is damaged or cannot be read ({error})") from None


def _check_header(header: bytes, shape: tuple[int, int, int]) -> None:
    """Before decoding: a small file may claim to be an image that fills the memory."""
    if not header.startswith(_SIGNATURE):
        raise Unusable("is not a PNG file")
    if len(header) < _HEADER.size:
        raise Unusable("is damaged: it ends inside its header")
    _, kind, width, height, depth, colour = _HEADER.unpack(header)
    if kind != b"IHDR" or colour not in _COLOUR_TYPES:
        raise Unusable("is damaged: it has no header that the PNG format knows")
    expected_height, expected_width, channels = shape
    if channels not in _COLOUR_TYPE_OF_CHANNELS:
        raise PipelineError(f"the model takes images of {channels} channels, which no PNG file can hold")
    if (width, height) != (expected_width, expected_height):
        raise Unusable(f"is {width} x {height} pixels; the model takes {expected_width} x {expected_height}")
    expected = _COLOUR_TYPES[_COLOUR_TYPE_OF_CHANNELS[channels]]
    if _COLOUR_TYPES[colour] != expected:
        raise Unusable(f"has pixels of {_COLOUR_TYPES[colour]}; the model takes {expected}")
    if depth != _BIT_DEPTH:
        raise Unusable(f"has {depth} bits per sample; the model takes {_BIT_DEPTH}")
