"""A file of records that is only appended to, and synced before `append` returns.

    length (8 bytes)  SHA-256 of the record (32)  4 bytes of SHA-256 of both  record        and so on

A record that is not whole, because its writer was killed, differs recognisably from one that was changed.
"""

import hashlib
import os
from pathlib import Path

from fedpipe.atomic import naming, sync_folder
from fedpipe.errors import PipelineError

_LENGTH, _DIGEST, _CHECK = 8, 32, 4
_HEADER = _LENGTH + _DIGEST + _CHECK


class RecordFile:
    """Records on disk. The folder must exist; the file is made with the first record, readable by its owner only.

    Attributes:
      path: The file.
      records: Its records when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Reads the records. The last one is dropped if it is not whole: nobody has relied on it.

        Raises:
          PipelineError: The file is damaged: a record or its length was changed.
        """
        self.path = path
        self.records: list[bytes] = []
        if self._erasing.exists():
            self._overwrite()
        data = path.read_bytes() if path.exists() else b""
        at = 0
        while at + _HEADER <= len(data):
            start = at + _HEADER
            end = start + int.from_bytes(data[at : at + _LENGTH], "little")
            record, header = data[start:end], data[at:start]
            right = header == _header(record) if end <= len(data) else header[-_CHECK:] == _checksum(header)
            if not right:
                raise PipelineError(f"{path} is damaged at byte {at}: move it away, and train with another seed")
            if end > len(data):
                break
            self.records.append(record)
            at = end
        if at < len(data):
            with path.open("r+b") as file:
                file.truncate(at)
                os.fsync(file.fileno())
        self._size = at

    def append(self, *parts: bytes) -> None:
        """Adds a record, which is these parts together; it is on the disk when this returns."""
        with naming(self.path):
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.truncate(self._size)  # what an append that failed has left
                file.write(_header(*parts))
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self.path.parent)
        self._size += _HEADER + sum(map(len, parts))

    def erase(self) -> None:
        """Overwrites the file with zeros and removes it, which is all that a program can do: disks may keep copies."""
        self.records, self._size = [], 0
        if self.path.exists():
            self.path.replace(self._erasing)
            sync_folder(self.path.parent)
            self._overwrite()

    @property
    def _erasing(self) -> Path:
        """The name of a file that is being erased: a killed process must not leave zeros where records are read."""
        return self.path.with_name(self.path.name + ".erasing")

    def _overwrite(self) -> None:
        with naming(self._erasing), self._erasing.open("r+b") as file:
            file.write(bytes(self._erasing.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        self._erasing.unlink()
        sync_folder(self.path.parent)


def _header(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    start = sum(map(len, parts)).to_bytes(_LENGTH, "little") + digest.digest()
    return start + _checksum(start)


def _checksum(header: bytes) -> bytes:
    return hashlib.sha256(header[: _LENGTH + _DIGEST]).digest()[:_CHECK]
