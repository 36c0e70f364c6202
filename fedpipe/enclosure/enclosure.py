"""Nobody but us reaches the TFF worker: a Unix socket in place of its port.

The worker listens on every network interface, without credentials, executes any graph that is sent to it, and has no
switch for that. `fedpipe.enclosure.shut_in` starts it in a network of its own, or has its ``bind`` give it our socket.
Here is the driver's side: the socket, and the report of which way worked.

The socket's file is removed as soon as it is open, so nothing is left of it, however the driver ends. From then on it
has one name: the driver's own file descriptor below /proc, where only the same user and root may look.
"""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedpipe.enclosure import shut_in
from fedpipe.errors import PipelineError

SHUT = ("namespace", "filter")
OPEN = "open"
SWITCH = "FEDPIPE_OPEN_WORKER"

_NAMES = {"namespace": "a network namespace", "filter": "a seccomp filter that answers bind"}
_CLIENTS_WAITING = 128
# What an HTTP/2 client says first, with empty settings; the server answers with its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def ways_allowed() -> tuple[str, ...]:
    """The ways to start the worker, best first; an open port is the last one with ``FEDPIPE_OPEN_WORKER=yes``.

    Raises:
      PipelineError: The variable has another value than yes or no.
    """
    value = os.environ.get(SWITCH, "")
    if value not in ("", "no", "yes"):
        raise PipelineError(f"{SWITCH} is {value!r} in the environment, but can be yes or no")
    return (*SHUT, OPEN) if value == "yes" else SHUT


class Enclosure:
    """The Unix socket of one worker, and the reports of the process that becomes the worker."""

    def __init__(self, port: int, ways: Sequence[str]) -> None:
        """``port`` is the worker's; ``ways`` are tried in their order (`SHUT`, `OPEN`)."""
        self._port, self._ways = port, tuple(ways)
        self._listener, descriptor = _private_socket()
        # This descriptor stays open for good. A gRPC channel can outlive its worker, and must not find another one.
        self.address = f"unix:/proc/{os.getpid()}/fd/{descriptor}"
        self._channel, self._childs_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.descriptors = (self._listener.fileno(), self._childs_channel.fileno())

    def around(self, command: Sequence[str]) -> list[str]:
        """The command line that runs the worker's ``command`` in the sandbox; start it with `descriptors` passed on."""
        script = [sys.executable, "-I", "-S", shut_in.__file__]
        descriptors = [str(descriptor) for descriptor in self.descriptors]
        return [*script, str(os.getpid()), ",".join(self._ways), str(self._port), *descriptors, *command]

    def wait_until_chosen(self, seconds: float, log: Path) -> str:
        """Waits for the started process to report which of the ways it takes, and returns that.

        Raises:
          PipelineError: The system forbids all of them, or nothing was reported in time; ``log`` is where to look.
        """
        self._listener.close()
        self._childs_channel.close()
        self._channel.settimeout(seconds)
        try:
            message = self._channel.recv(2**16)
        except TimeoutError:
            message = b""
        if not message:
            raise PipelineError(f"the TFF worker could not be started; its log is {log}")
        report = json.loads(message)
        if report["way"] is None:
            raise PipelineError(_refusal(report["reasons"]))
        if report["way"] == OPEN and self._ways != (OPEN,):
            print(
                f"train: {SWITCH}=yes: the TFF worker listens on port {self._port} of every network interface",
                file=sys.stderr,
            )
        return str(report["way"])

    def is_ready(self, seconds: float) -> bool:
        """Whether a gRPC server answers at our socket, within ``seconds``."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(seconds)
            try:
                client.connect(self.address.removeprefix("unix:"))
                client.sendall(_HELLO)
                return bool(client.recv(1))
            except OSError:  # nobody listens yet, or nobody answers
                return False

    def is_broken(self) -> bool:
        """Whether the second process, between us and the worker, has ended or we closed the connection."""
        if self._channel.fileno() < 0:
            return True
        self._channel.setblocking(False)
        try:
            return not self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Ends the connection to the other side, when the worker has ended."""
        for ours in (self._listener, self._childs_channel, self._channel):
            ours.close()


def _private_socket() -> tuple[socket.socket, int]:
    """A listening Unix socket without a file, and a descriptor that names it for ``connect``."""
    with tempfile.TemporaryDirectory(prefix="fedpipe-") as folder:
        listener = socket.socket(socket.AF_UNIX)
        place = os.open(folder, os.O_PATH)
        try:
            listener.bind(f"/proc/self/fd/{place}/worker")  # a socket's name has 107 bytes at most, a folder's more
        finally:
            os.close(place)
        path = Path(folder, "worker")
        path.chmod(0o600)
        listener.listen(_CLIENTS_WAITING)
        return listener, os.open(path, os.O_PATH)


def _refusal(reasons: dict[str, str]) -> str:
    tried = " and ".join(f"{_NAMES[way]} ({reason})" for way, reason in reasons.items())
    return (
        f"the TFF worker would listen on every network interface without a password, as this system forbids {tried}: "
        "allow one of them (docs/security.md says how, in a container with `--security-opt seccomp=unconfined`), "
        f"or accept the open port with {SWITCH}=yes in the environment"
    )
