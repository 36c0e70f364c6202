"""Messages over a Unix socket: what goes in comes out, and nothing else gets through."""

import socket
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.errors import PipelineError
from fedpipe.links.local import Kind, LocalMessage, LocalSocket, connect, listen


def pair() -> tuple[LocalSocket, LocalSocket]:
    first, other = socket.socketpair()
    return LocalSocket(first), LocalSocket(other)


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1])
def test_a_message_of_any_size_comes_through(size: int) -> None:
    sender, receiver = pair()
    message = LocalMessage(Kind.ANSWER, 2**63, "site-1", bytes(size))
    thread = threading.Thread(target=sender.send, args=(message,))
    thread.start()
    assert receiver.receive(2**21) == message
    thread.join()
    sender.close()
    with pytest.raises(EOFError):
        receiver.receive(10)


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(sent: bytes) -> None:
    first, other = socket.socketpair()
    with first, other:
        first.sendall(sent)
        first.shutdown(socket.SHUT_WR)
        receiver, used = LocalSocket(other), 0
        while True:
            try:
                message = receiver.receive(50)
            except (PipelineError, EOFError):
                break
            used += 19 + len(message.site) + len(message.content)
        assert used <= len(sent)


def test_a_message_that_is_too_large_is_not_read() -> None:
    sender, receiver = pair()
    sender.send(LocalMessage(Kind.QUESTION, 1, "site-1", bytes(1001)))
    with pytest.raises(PipelineError, match="a message of 1,001 bytes; 1,000 are allowed"):
        receiver.receive(1000)


def test_the_socket_is_of_this_user_alone_and_its_path_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 30) / "sockets/a.sock"
    with listen(path) as listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        ours = connect(path)
        theirs = LocalSocket(listening.accept()[0])
        assert ours.is_of_this_user() and theirs.is_of_this_user()
        assert not theirs.is_readable(0.01)
        ours.send(LocalMessage(Kind.HELLO, content=b"here"))
        assert theirs.is_readable(1.0) and theirs.receive(10).content == b"here"
    with listen(path):  # what was left is replaced
        connect(path).close()
    with pytest.raises(OSError):
        connect(path)
