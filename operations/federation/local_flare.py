"""A federation of NVIDIA FLARE on this machine, for trying: provisioned, made safe, started, and ended again."""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from fedpipe.errors import PipelineError
from fedpipe.links.flare import kit as kits
from fedpipe.links.flare.start import environment, start

_PROVISION_SECONDS = 60.0
_END_SECONDS = 10.0
_SERVER, _USER = "localhost", "admin@fedpipe.org"
_PROJECT = """\
api_version: 3
name: fedpipe
description: a federation on one machine
participants:
  - {{name: {server}, type: server, org: fedpipe, fed_learn_port: {ports[0]}, admin_port: {ports[1]}}}
  - {{name: {user}, type: admin, org: fedpipe, role: project_admin}}
{sites}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
    args: {{template_file: master_template.yml}}
  - path: nvflare.lighter.impl.static_file.StaticFileBuilder
    args: {{config_folder: config, scheme: grpc}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""


class LocalFlare:
    """A server and sites; a context manager that runs them."""

    def __init__(self, folder: Path, sites: Sequence[str]) -> None:
        """Makes the kits, safe to use.

        Raises:
          PipelineError: NVIDIA FLARE is not installed, or does not make them.
        """
        kits.require_installed()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"  - {{name: {site}, type: client, org: fedpipe}}" for site in sites]
        project = _PROJECT.format(server=_SERVER, user=_USER, ports=_free_ports(), sites="\n".join(lines))
        (folder / "project.yml").write_text(project, encoding="utf-8")
        command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", "project.yml", "-w", "workspace"]
        made = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=_PROVISION_SECONDS
        )
        if made.returncode:
            raise PipelineError(f"`nvflare provision` failed: {made.stderr or made.stdout}")
        place = (folder / "workspace/fedpipe/prod_00").resolve()
        self.server, self.admin = place / _SERVER, place / _USER
        self.sites = {site: place / site for site in sites}
        self._running = [self.server, *self.sites.values()]
        for kit in [*self._running, self.admin]:
            kits.secure(kit)
        self._stack = ExitStack()

    def __enter__(self) -> "LocalFlare":
        with ExitStack() as stack:
            for kit in self._running:
                stack.callback(stop, kit)
                start(kit)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def stop(kit: Path) -> None:
    """Ends the processes of a kit at once."""
    processes = running_processes(kit)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, _END_SECONDS)


def running_processes(kit: Path) -> list[psutil.Process]:
    """Those of a kit: the shell that starts it anew, NVIDIA FLARE, and its jobs."""
    return [process for name in ("daemon_pid.fl", "pid.fl") for process in _family(kit / name)]


def _family(file: Path) -> list[psutil.Process]:
    """The process whose number is in ``file``, and all that it started."""
    try:
        first = psutil.Process(int(file.read_text(encoding="utf-8")))
        return [first, *first.children(recursive=True)]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
