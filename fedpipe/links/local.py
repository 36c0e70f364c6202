"""Messages over a Unix socket, between processes of one user on one machine: the ends of the link of NVIDIA FLARE.

A message: its kind (uint8), the number of the question (uint64), the bytes of the site's name (uint16) and of the
content (uint64), the name, the content.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from fedpipe.errors import PipelineError

_HEAD = struct.Struct(">BQHQ")
_LONGEST_NAME = 64
_PEER = struct.Struct("3i")  # process, user and group, as the kernel knows them


class Kind(IntEnum):
    """The type of a message."""

    HELLO = 1  # content: which training the peer belongs to
    QUESTION = 2
    ANSWER = 3
    LOST = 4  # content: why the site does not answer, for people


class LocalMessage(NamedTuple):
    """A message."""

    kind: Kind
    number: int = 0  # of the question
    site: str = ""
    content: bytes = b""


class LocalSocket:
    """One end of a connection; any thread may send, and one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: LocalMessage) -> None:
        """Sends a message.

        Raises:
          OSError: The other end is gone.
        """
        name = message.site.encode()
        head = _HEAD.pack(message.kind, message.number, len(name), len(message.content))
        with self._sending:
            self._connection.sendall(head + name)
            self._connection.sendall(message.content)

    def receive(self, largest: int) -> LocalMessage:
        """The next message.

        Args:
          largest: The bytes that its content may have.

        Raises:
          EOFError: The other end has closed the connection.
          OSError: The connection is broken.
          PipelineError: What arrives is no message, or too large.
        """
        kind, number, name_size, size = _HEAD.unpack(self._exactly(_HEAD.size))
        if kind not in list(Kind) or name_size > _LONGEST_NAME:
            raise PipelineError("bytes that are no message")
        if size > largest:
            raise PipelineError(f"a message of {size:,} bytes; {largest:,} are allowed")
        try:
            name = self._exactly(name_size).decode("ascii")
        except UnicodeDecodeError:
            raise PipelineError("bytes that are no message") from None
        return LocalMessage(Kind(kind), number, name, bytes(self._exactly(size)))

    def is_readable(self, seconds: float) -> bool:
        """Whether bytes, or the end of the connection, arrive within so many seconds."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def is_of_this_user(self) -> bool:
        """Whether the process at the other end runs as the user of this one."""
        peer = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return bool(_PEER.unpack(peer)[1] == os.getuid())

    def close(self) -> None:
        """Ends the connection, also while another thread receives."""
        with suppress(OSError):  # it is closed
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _exactly(self, size: int) -> bytearray:
        content, place = bytearray(), 0
        while place < size:
            part = self._connection.recv(min(size - place, 2**20))  # so that memory grows with what has arrived
            if not part:
                raise EOFError
            content += part
            place += len(part)
        return content


def listen(path: Path) -> socket.socket:
    """A socket that listens at ``path``, in a folder that this user alone may enter; one that was left is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    with _short(path) as address:
        listening.bind(address)
    path.chmod(0o600)
    listening.listen(4)
    return listening


def connect(path: Path) -> LocalSocket:
    """A connection to the process that listens at ``path``.

    Raises:
      OSError: None does.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return LocalSocket(connection)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Another path of a file to be: a socket's address has 107 bytes at most."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
