"""Batches as clients leave them: npz files and IDX pairs with their SHA-256."""

import hashlib
import struct
from pathlib import Path

import numpy as np


def add_hash(path: Path, bare: bool = False) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(digest if bare else f"{digest}  {path.name}\n")


def add_npz(
    folder: Path, name: str, images: np.ndarray, labels: np.ndarray, keys: tuple[str, str] = ("x", "y")
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", **dict(zip(keys, (images, labels), strict=True)))
    add_hash(folder / f"{name}.npz")


def add_idx(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in ((f"images-idx{images.ndim}", images), ("labels-idx1", labels)):
        path = folder / f"{name}-{part}-ubyte"
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        path.write_bytes(header + array.tobytes())
        add_hash(path, bare=True)


def add_clients(folder: Path, name: str, clients: np.ndarray) -> None:
    """Adds each sample's client to a batch of ``add_npz``."""
    path = folder / f"{name}.npz"
    with np.load(path) as arrays:
        np.savez(path.with_suffix(""), **dict(arrays), clients=clients)
    add_hash(path)


def add_idx_clients(folder: Path, name: str, clients: np.ndarray, kind: str) -> None:
    """Adds each sample's client to a batch of ``add_idx``: as ``int``, or as ``ubyte``."""
    path = folder / f"{name}-clients-idx1-{kind}"
    code, stored = {"int": (12, ">i4"), "ubyte": (8, ">u1")}[kind]
    path.write_bytes(struct.pack(">BBBBI", 0, 0, code, 1, len(clients)) + clients.astype(stored).tobytes())
    add_hash(path)
