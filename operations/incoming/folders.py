"""The folders of batches that are not in the pool: data/incoming/, data/held/ and data/rejected/."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fedpipe.atomic import write_text
from operations.incoming.batches import batch_of

INCOMING = Path("data/incoming")
HELD = Path("data/held")
REJECTED = Path("data/rejected")
REASON_SUFFIX = ".reason.txt"
_LONGEST_NAME = 200  # bytes; with a digest and the suffix it stays below the 255 that systems take


def move_aside(folder: Path, name: str, files: Sequence[Path], reason: str) -> str:
    """Moves ``files`` to ``folder`` (over what an earlier try of that name left there) and writes the reason.

    The sender chose the names. In the folder they are safe ones, and the reason holds the original.

    Returns:
      The reason as it is written, one line.
    """
    safe_name = _safe(name)
    if safe_name != name:
        reason = f"{reason} (its name is '{name}')"
    # A file's name may be no text, or several lines.
    reason = " ".join(reason.encode(errors="backslashreplace").decode().split())
    # First the reason: files that are moved are never without one.
    write_text(folder / f"{safe_name}{REASON_SUFFIX}", reason + "\n")
    for path in files:
        target = folder / _safe(path.name)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        shutil.move(path, target)
        for inner in sorted(target.rglob("*"), reverse=True):  # a folder's content before the folder
            inner.rename(inner.with_name(_safe(inner.name)))
    return reason


def reasons(folder: Path) -> dict[str, str]:
    """The batches in data/held/ or data/rejected/, by name, each with the reason."""
    paths = sorted(folder.glob(f"*{REASON_SUFFIX}"))
    return {path.name.removesuffix(REASON_SUFFIX): path.read_text(encoding="utf-8").strip() for path in paths}


def files_of(folder: Path, name: str) -> list[Path]:
    """The files of batch ``name`` in ``folder``, without its reason."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.is_file() and batch_of(path.name) == name]


def forget(folder: Path, name: str) -> None:
    """Removes what earlier tries of batch ``name`` left in ``folder``."""
    for path in files_of(folder, name):
        path.unlink()
    (folder / f"{name}{REASON_SUFFIX}").unlink(missing_ok=True)


def _safe(name: str) -> str:
    """A file's name that every system and GitHub's upload of artifacts takes; another one has a digest of ``name``."""
    safe = re.sub(r"[^\w.-]", "_", name).encode()[:_LONGEST_NAME].decode(errors="ignore")
    if safe == name and not name.endswith("."):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    stem, dot, suffix = safe.rstrip(".").rpartition(".")
    return f"{stem}-{digest}{dot}{suffix}" if stem else f"{suffix}-{digest}"
