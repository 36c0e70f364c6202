"""The client of each sample of a batch: whole numbers or text, as a natural partition's table names them."""

import re
import struct
from pathlib import Path

import numpy as np

from fedpipe.datasets.ledger import CLIENT_NAME
from fedpipe.datasets.sources.npz_header import ArrayHeader
from fedpipe.errors import PipelineError

KEY = "clients"  # of an npz file
SUFFIXES = {"-clients-idx1-ubyte": (0x08, ">u1"), "-clients-idx1-int": (0x0C, ">i4")}  # IDX's type, and NumPy's


def check_header(called: str, header: ArrayHeader) -> None:
    """Refuses an array that cannot be the clients of samples, by its header.

    Raises:
      PipelineError: It is neither whole numbers nor text, or not one for each sample.
    """
    if header.dtype.hasobject:
        raise PipelineError(f"{called} holds Python objects (a pickle), which is refused: store clients.astype(str)")
    if header.dtype.kind not in "iuU":
        raise PipelineError(f"{called} is {header.dtype}; clients are whole numbers or text: store clients.astype(str)")
    if len(header.shape) != 1:
        raise PipelineError(f"{called} has shape {header.shape}; one client for each sample is expected")
    if not header.is_whole:
        raise PipelineError(f"{called} is longer or shorter than its header {header.shape} says")


def read_idx_clients(path: Path, suffix: str) -> np.ndarray:
    """The clients in an IDX file of unsigned bytes or of 32-bit integers: int [n].

    Raises:
      PipelineError: The file is not a batch.
    """
    code, kind = SUFFIXES[suffix]
    content = path.read_bytes()
    if len(content) < 8 or content[:4] != bytes([0, 0, code, 1]):
        raise PipelineError(f"{path.name} is no IDX file of one dimension: it does not start with 00 00 {code:02x} 01")
    (count,) = struct.unpack(">I", content[4:8])
    if len(content) != 8 + count * np.dtype(kind).itemsize:
        raise PipelineError(f"{path.name} is longer or shorter than the {count} clients that its header says")
    return np.frombuffer(content, kind, offset=8).astype(np.int64)


def as_names(clients: np.ndarray, samples: int) -> np.ndarray:
    """The clients as text [samples]: the number 7 is the client '7'.

    Raises:
      PipelineError: They are not one for each sample, or one is no name.
    """
    if len(clients) != samples:
        raise PipelineError(f"it has {samples} samples, but {len(clients)} clients; one for each sample is expected")
    names = clients.astype(str)
    for name in np.unique(names):
        if not re.fullmatch(CLIENT_NAME, str(name)) or not _is_text(str(name)):
            raise PipelineError(
                f"it has the client {str(name)[:50]!r}; a client is a whole number, or a line of 1 to 200 characters"
            )
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
