"""The TFF worker process: started, watched and ended by us, so that it never outlives the run.

TFF's own context starts ``worker_binary`` with the driver's stdout and leaves it behind when the driver is killed. Here
it writes to a log file of its own, and the kernel ends it with the driver (PR_SET_PDEATHSIG), however that ends.

The worker listens on every network interface, without credentials, and executes any graph sent to it; its port is a
random free one. That is TFF's binary and cannot be changed from outside: on a shared machine use a firewall.
"""

import os
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psutil

from fedpipe.errors import PipelineError
from fedpipe.launch import ending_with_us

LOG = Path("logs/train/worker.log")

_START_SECONDS = 60


class Worker:
    """A running TFF worker; use as a context manager. ``address`` is where it listens.

    Start it before TensorFlow is imported: then both load at the same time. It ends with the thread that started it.
    """

    def __init__(self, log: Path = LOG) -> None:
        self._log = log
        self.port = _free_port()
        log.parent.mkdir(parents=True, exist_ok=True)
        # One call more than the cores keeps them busy while a result is on its way, and bounds the memory.
        calls = len(os.sched_getaffinity(0)) + 1
        command = [str(_binary()), f"--port={self.port}", f"--max_concurrent_computation_calls={calls}"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ending_with_us(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C is for the driver, which then ends the worker
            )

    @property
    def address(self) -> str:
        """Host and port for gRPC."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Waits until the worker accepts connections.

        Raises:
          PipelineError: It ended, or did not listen within a minute.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            # The worker's own socket, and not whatever else may have taken the port meanwhile.
            listening = psutil.Process(self.pid).net_connections("tcp")
            if any(socket.laddr.port == self.port and socket.status == psutil.CONN_LISTEN for socket in listening):
                return
            time.sleep(0.05)
        raise PipelineError(f"the TFF worker did not listen within {_START_SECONDS} s; its log is {self._log}")

    def check_alive(self, grace: float = 0.0) -> None:
        """Raises PipelineError if the worker has ended, or ends within ``grace`` seconds."""
        try:
            code = self._process.wait(grace)
        except subprocess.TimeoutExpired:
            return
        if code == -signal.SIGKILL:
            reason = "was killed (signal 9, often for want of memory)"
        elif code < 0:
            reason = f"was ended by signal {-code} ({signal.Signals(-code).name})"
        else:
            reason = f"ended with exit code {code}"
        raise PipelineError(f"the TFF worker {reason}; its log is {self._log}")

    def stop(self) -> None:
        """Ends the worker and waits for it; harmless when it has ended."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _binary() -> Path:
    """TFF's worker, found without importing TFF (which takes seconds)."""
    package = find_spec("tensorflow_federated")
    if package is None or package.origin is None:
        raise PipelineError("tensorflow-federated is not installed in this Python: run 'make env', or use 'make repro'")
    path = Path(package.origin).parent / "data" / "worker_binary"
    if not path.is_file():
        raise PipelineError(f"{path} is missing: this build of tensorflow-federated has no worker (Linux x86-64 has)")
    return path
