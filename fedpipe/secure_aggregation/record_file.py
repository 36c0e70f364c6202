"""A file of records that is only appended to, and synced before `append` returns.

length (8 bytes)  SHA-256 of the record (32)  record        and so on
"""

import hashlib
import os
from pathlib import Path

from fedpipe.atomic import naming
from fedpipe.errors import PipelineError

_LENGTH, _DIGEST = 8, 32


class RecordFile:
    """Records on disk. The folder must exist; the file is made with the first record, readable by its owner only.

    Attributes:
      path: The file.
      records: What it had when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Reads the records. The last one is dropped if it is not whole: nobody has relied on it.

        Raises:
          PipelineError: The file is damaged: a whole record has another digest.
        """
        self.path = path
        self.records: list[bytes] = []
        data = path.read_bytes() if path.exists() else b""
        at = 0
        while at + _LENGTH + _DIGEST <= len(data):
            start = at + _LENGTH + _DIGEST
            end = start + int.from_bytes(data[at : at + _LENGTH], "little")
            if end > len(data):
                break
            if hashlib.sha256(data[start:end]).digest() != data[at + _LENGTH : start]:
                raise PipelineError(
                    f"{path} is damaged at byte {at}: restore it, or move it away, and begin another training"
                )
            self.records.append(data[start:end])
            at = end
        if at < len(data):
            with path.open("r+b") as file:
                file.truncate(at)
                os.fsync(file.fileno())

    def append(self, record: bytes) -> None:
        """Adds a record; it is on the disk when this returns."""
        with naming(self.path):
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(len(record).to_bytes(_LENGTH, "little") + hashlib.sha256(record).digest())
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self.path.parent)

    def erase(self) -> None:
        """Overwrites the file with zeros and removes it, which is all that a program can do: disks may keep copies."""
        self.records = []
        if self.path.exists():
            with naming(self.path), self.path.open("r+b") as file:
                file.write(bytes(self.path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            self.path.unlink()
            sync_folder(self.path.parent)


def sync_folder(folder: Path) -> None:
    """Syncs which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
