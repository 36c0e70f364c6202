"""Bytes of messages and records: little-endian integers, byte strings of a fixed or a stated length, nothing else."""

import struct

from fedpipe.secure_aggregation.refusal import Refused


class Writer:
    """Puts fields one after another."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []

    def number(self, value: int, size: int) -> "Writer":
        """An unsigned integer of ``size`` bytes."""
        self._parts.append(value.to_bytes(size, "little"))
        return self

    def fixed(self, value: bytes | memoryview) -> "Writer":
        """Bytes whose length the reader knows."""
        self._parts.append(value)
        return self

    def sized(self, value: bytes) -> "Writer":
        """Bytes after their length, which takes 8 bytes."""
        return self.number(len(value), 8).fixed(value)

    def done(self) -> bytes:
        """All fields."""
        return b"".join(self._parts)


class Reader:
    """Takes fields one after another, and refuses bytes that end early or late.

    Nothing is allocated for a length before that many bytes are known to be there.
    """

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        """``name``: the bytes' meaning, for the errors."""
        self._left, self._name = memoryview(data), name

    def fixed(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises Refused if fewer are left."""
        return bytes(self.view(size))

    def view(self, size: int) -> memoryview:
        """The same, not copied."""
        if size > len(self._left):
            raise Refused(f"{self._name}: {size} more bytes were expected, and {len(self._left)} are left")
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def number(self, size: int) -> int:
        """An unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.view(size), "little")

    def sized(self) -> bytes:
        """Bytes after their length."""
        return self.fixed(self.number(8))

    def end(self) -> None:
        """Raises Refused if bytes are left."""
        if self._left:
            raise Refused(f"{self._name}: {len(self._left)} bytes too many")


def joined(*parts: bytes) -> bytes:
    """Parts with their lengths: no two different lists of parts give the same bytes."""
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)
