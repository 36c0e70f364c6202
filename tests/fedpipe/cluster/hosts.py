"""Hosts on this machine that have a network of their own: namespaces, joined by a bridge, with a cable each.

No namespace has a name: it lives as long as the process that holds it, and takes its end of each cable with it. The
kernel ends these processes with this one, so nothing is left, whatever happens.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fedpipe.system.launch import ending_with_us

_SECONDS = 10.0


class Hosts:
    """The hosts; this process reaches them, too, at the address of `gateway`."""

    def __init__(self, stack: ExitStack, names: Sequence[str]) -> None:
        self._net = f"198.18.{os.getpid() % 250}"  # of RFC 2544: for tests, routed nowhere
        self.gateway, cable = f"{self._net}.1", f"fedpipe{os.getpid()}"[:15]
        self._holders = {name: self._holder(stack) for name in ("switch", *names)}
        self._addresses = {name: f"{self._net}.{number}" for number, name in enumerate(names, 2)}
        self._ip("switch", "link add bridge type bridge")
        self._ip("switch", "link set bridge up")
        self._ip("", f"link add {cable} type veth peer name gateway netns {self._holders['switch']}")
        stack.callback(subprocess.run, ["ip", "link", "delete", cable], check=False, capture_output=True)
        self._plug_in("gateway")
        self._ip("", f"address add {self.gateway}/24 dev {cable}")
        self._ip("", f"link set {cable} up")
        for name in names:
            self._ip("switch", f"link add {name} type veth peer name eth0 netns {self._holders[name]}")
            self._plug_in(name)
            self._ip(name, f"address add {self._addresses[name]}/24 dev eth0")
            self._ip(name, "link set eth0 up")
            self._ip(name, "link set lo up")

    def address(self, name: str) -> str:
        return self._addresses[name]

    def inside(self, name: str) -> list[str]:
        """What comes before a command that is to run there."""
        return ["nsenter", f"--net=/proc/{self._holders[name]}/ns/net"]

    def cut_off(self, name: str) -> None:
        """Pulls the host's cable."""
        self._ip("switch", f"link set {name} down")

    def plug_in_again(self, name: str) -> None:
        self._ip("switch", f"link set {name} up")

    def _plug_in(self, port: str) -> None:
        self._ip("switch", f"link set {port} master bridge")
        self._ip("switch", f"link set {port} up")

    def _holder(self, stack: ExitStack) -> int:
        """The id of a process in a new namespace."""
        command = [shutil.which("unshare") or "", "--net", "sleep", "infinity"]
        process = subprocess.Popen(ending_with_us(command), stderr=subprocess.PIPE)
        stack.callback(process.wait)
        stack.callback(process.kill)
        deadline, here = time.monotonic() + _SECONDS, Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{process.pid}/ns/net").readlink() == here:
            if process.poll() is not None or time.monotonic() > deadline:
                assert process.stderr
                pytest.skip(f"the system forbids network namespaces: {process.stderr.read().decode().strip()}")
            time.sleep(0.01)
        return process.pid

    def _ip(self, where: str, command: str) -> None:
        done = subprocess.run(
            [*(self.inside(where) if where else []), "ip", *command.split()],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"the system forbids `ip {command}`: {done.stderr.strip()}")


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[Hosts]:
    """Hosts with these names; skips the test where the system forbids them."""
    if os.geteuid():
        pytest.skip("only root may make network namespaces that others reach")
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is missing (Debian: iproute2, util-linux)")
    with ExitStack() as stack:
        yield Hosts(stack, names)
