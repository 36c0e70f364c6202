"""The header of an array in an ``.npz`` archive: shape and type, before memory is taken for the content."""

import math
import tokenize
import zipfile
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class ArrayHeader(NamedTuple):
    """An array of an archive, by its header."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored_bytes: int  # of the member of the archive
    expected_bytes: int  # of a member whose content is as long as the header says

    @property
    def is_whole(self) -> bool:
        """Whether the content has the length that the header says."""
        return self.stored_bytes == self.expected_bytes


def array_header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    """The header of the array ``name`` of an opened archive.

    Raises:
      KeyError: The archive lacks the array.
      ValueError: It is no array of NumPy's format 1.0 or 2.0.
    """
    stored = archive.getinfo(f"{name}.npy")
    with archive.open(stored) as member:
        version = npy.read_magic(member)
        if version not in _READERS:
            raise ValueError(f"its version is {version}; allowed: (1, 0) and (2, 0)")
        try:
            shape, _, dtype = _READERS[version](member)
        except (TypeError, SyntaxError, tokenize.TokenError) as error:  # a header is read as Python's text
            raise ValueError(f"its header is damaged: {error}") from None
        return ArrayHeader(shape, dtype, stored.file_size, member.tell() + math.prod(shape) * dtype.itemsize)
