"""Passes connections of a Unix socket on to a TCP port of this process's own network namespace."""

import socket
import threading
from contextlib import suppress

_BUFFER = 2**20


def forward(listener: socket.socket, port: int) -> None:
    """Connects every client of ``listener`` with ``port`` of 127.0.0.1, and does not return.

    Args:
      listener: A listening Unix socket, blocking.
      port: The TCP port; a client is turned away while nothing listens there.
    """
    while True:
        client, _ = listener.accept()
        try:
            server = _connect(port)
        except OSError:
            client.close()
            continue
        threading.Thread(target=_join, args=(client, server), daemon=True).start()


def _connect(port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET)
    try:
        server.connect(("127.0.0.1", port))
    except OSError:
        server.close()
        raise
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def _join(client: socket.socket, server: socket.socket) -> None:
    """Passes bytes on in both directions until both have ended."""
    with client, server:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Passes on what ``source`` sends until it ends, and tells ``target`` of the end."""
    buffer = memoryview(bytearray(_BUFFER))
    try:
        while size := source.recv_into(buffer):
            target.sendall(buffer[:size])
    except OSError:  # one of them is gone: nothing goes either way any more
        with suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
