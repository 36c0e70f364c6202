"""Behind the filter nothing goes out, whichever way a process tries."""

import subprocess
import sys

import pytest

from tests import ROOT

# Each way is tried towards a socket that listens, and answers "sent", or the error.
PROGRAM = """
import ctypes, errno, os, socket, sys
from fedpipe.enclosure import syscall_filter

way, shut = sys.argv[1:]
tcp = socket.create_server(("127.0.0.1", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
path = f"\\0fedpipe-test-{os.getpid()}"
unix = socket.socket(socket.AF_UNIX)
unix.bind(path)
unix.listen()
libc = ctypes.CDLL(None, use_errno=True)
FASTOPEN = 0x20000000

class Ways:
    def connect(): socket.socket().connect(tcp.getsockname())
    def connect_unix():
        with socket.socketpair()[0] as any_unix_socket: any_unix_socket.connect(path)
    def unix(): socket.socket(socket.AF_UNIX)
    def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", udp.getsockname())
    def udp_nonblocking(): socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    def netlink(): socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    def multipath(): socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    def sendto(): socket.socket().sendto(b"x", FASTOPEN, tcp.getsockname())
    def sendmsg(): socket.socket().sendmsg([b"x"], [], FASTOPEN, tcp.getsockname())
    def sendmmsg():
        if libc.syscall(307, tcp.fileno(), None, 0, FASTOPEN): raise OSError(ctypes.get_errno(), "")
    def io_uring():
        if libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0: raise OSError(ctypes.get_errno(), "")
    def second_interface():
        if libc.syscall(0x40000000 + 39) < 0: raise OSError(ctypes.get_errno(), "")
    def serve():
        with socket.create_server(("127.0.0.1", 0)) as server: server.getsockname()

if shut == "shut":
    syscall_filter.install(ask_for_bind=False)
try:
    getattr(Ways, way)()
    print("sent")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def attempt(way: str, shut: str) -> str:
    command = [sys.executable, "-S", "-c", PROGRAM, way, shut]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("way", "otherwise"),
    [
        ("connect", {"sent"}),
        ("connect_unix", {"EISCONN"}),
        ("unix", {"sent"}),
        ("udp", {"sent"}),
        ("udp_nonblocking", {"sent", "EAFNOSUPPORT"}),
        ("netlink", {"sent"}),
        ("multipath", {"sent", "EPROTONOSUPPORT", "ENOPROTOOPT"}),
        ("sendto", {"sent"}),
        ("sendmsg", {"sent"}),
        ("sendmmsg", {"sent"}),
        ("io_uring", {"sent", "EPERM", "ENOSYS", "EFAULT"}),
        ("second_interface", {"sent", "ENOSYS"}),
    ],
)
def test_nothing_goes_out(way: str, otherwise: set[str]) -> None:
    assert attempt(way, "not shut") in otherwise
    assert attempt(way, "shut") == "EACCES"


def test_a_server_can_serve() -> None:
    assert attempt("serve", "shut") == "sent"
