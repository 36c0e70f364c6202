"""What the kernel says of sockets, for processes in any network namespace, and what others reach."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from fedpipe.runtime import worker

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as another user")

INTRUDER = """
import json, os, socket, sys
user, *targets = json.loads(sys.argv[1])
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
for target in targets:
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family) as s:
        s.settimeout(5)
        try:
            s.connect(target if isinstance(target, str) else tuple(target))
            print("open")
        except OSError as error:
            print(error.strerror)
"""


@dataclass(frozen=True)
class Listening:
    """A TCP socket that listens, or a UDP socket with a port."""

    process: str
    network: str
    table: str
    port: int


def network(pid: int | str) -> str:
    """The network namespace of a process."""
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def listening(pid: int) -> set[Listening]:
    """What one process has open for others, whichever network it is in."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    actual = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if (state == "0A" or table.startswith("udp")) and f"socket:[{rest[5]}]" in own:
                actual.add(Listening(name, network(pid), table, int(local.rpartition(":")[2], 16)))
    return actual


def interfaces(pid: int) -> set[str]:
    """The network interfaces that a process sees."""
    return {line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]}


def addresses() -> list[str]:
    """The addresses of this machine."""
    actual = [a.address for entry in psutil.net_if_addrs().values() for a in entry if a.family == socket.AF_INET]
    return [*actual, "::1"] if socket.has_ipv6 and Path("/proc/net/if_inet6").exists() else actual


def try_as(user: int, *targets: str | tuple[str, int]) -> list[str]:
    """What connecting says, from a process in the test's network: "open", or the error; user 0 is the test's own."""
    command = [sys.executable, "-c", INTRUDER, json.dumps([user, *targets])]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to ``path``, by its name or through symlinks, that other users cannot enter."""
    ways = (path.absolute().parents, path.resolve().parents)
    return next((folder for way in ways for folder in reversed(way) if not folder.stat().st_mode & 0o001), None)


def as_nobody(command: list[str]) -> list[str]:
    """The command line that runs ``command`` as an ordinary user, who may read what root may (Python, perhaps).

    In a user namespace that right is lost. There, the worker can be executed only from where all users may enter.
    """
    if closed := closed_folder(worker._binary()):
        pytest.skip(
            f"another user cannot enter {closed}, which leads to the TFF worker: the checkout is in a private place"
        )
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not here")
    read = "+dac_read_search"
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [setpriv, *ids, f"--inh-caps={read}", f"--ambient-caps={read}", *command]
