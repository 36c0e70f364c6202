"""The TFF worker process: started, watched and ended by us, so that it never outlives the run.

TFF's own context starts ``worker_binary`` with the driver's stdout and leaves it behind when the driver is killed. Here
it writes to a log file of its own, and the kernel ends it with the driver (PR_SET_PDEATHSIG), however that ends.
Nobody else gets in: `fedpipe.enclosure.enclosure`.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fedpipe.enclosure.enclosure import Enclosure, ways_allowed
from fedpipe.errors import PipelineError
from fedpipe.pinning import pinned
from fedpipe.system.children import how_it_ended

# How the worker takes memory, unless the environment says otherwise; it decides nothing that is computed.
# TensorFlow's own allocator for oneDNN hands what one thread has freed to another, and that one's core waits for the
# first one's cache, which takes long if the two have none in common (`make bench ARGS=worker_memory`). With glibc, each
# thread has memory of its own; and glibc keeps it, since new pages from the system cost a page fault each.
_MEMORY = {
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_TOP_PAD_": str(64 * 2**20),  # a thread's memory comes in parts of this size, and glibc gives none back
}
_START_SECONDS = 60
_END_SECONDS = 2.0  # the forwarder ends with the worker, and may be gone first


class Worker:
    """A running TFF worker; use as a context manager.

    Start it before TensorFlow is imported: then both load at the same time. It ends with the thread that started it.

    Attributes:
      address: Where gRPC reaches it.
      way: Its sandbox: ``namespace``, ``filter``, or ``open`` if it is not.
    """

    def __init__(self, log: Path, ways: Sequence[str] | None = None) -> None:
        """Starts it.

        Args:
          log: The file for its output.
          ways: The ways to shut it in, in the order to try them; by default all that the environment allows.

        Raises:
          PipelineError: TFF is not installed, or the system forbids every way.
        """
        self._log = log
        port = _free_port()  # in the worker's network if it has its own
        self._enclosure = Enclosure(port, ways_allowed() if ways is None else ways)
        self.address = self._enclosure.address
        log.parent.mkdir(parents=True, exist_ok=True)
        # One call more than the cores keeps them busy while a result is on its way, and bounds the memory.
        calls = len(os.sched_getaffinity(0)) + 1
        command = [str(_binary()), f"--port={port}", f"--max_concurrent_computation_calls={calls}"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self._enclosure.around(command),
                env=_MEMORY | pinned(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._enclosure.descriptors,
                process_group=0,  # Ctrl-C is for the driver, which then ends the worker
            )
        try:
            self.way = self._enclosure.wait_until_chosen(_START_SECONDS, log)
        except BaseException:
            self.stop()
            raise

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
        while not self._enclosure.is_ready(0.05):
            self.check_alive()
            if time.monotonic() > deadline:
                raise PipelineError(f"the TFF worker did not listen within {_START_SECONDS} s; its log is {self._log}")

    def check_alive(self, grace: float = 0.0) -> None:
        """Raises PipelineError if the worker or its forwarder has ended, or ends within ``grace`` seconds."""
        broken = self._enclosure.is_broken()
        try:
            code = self._process.wait(max(grace, _END_SECONDS) if broken else grace)
        except subprocess.TimeoutExpired:
            if broken:
                raise PipelineError(f"the TFF worker's forwarder has ended; the log of both is {self._log}") from None
            return
        reason = how_it_ended(code) + (" (often for want of memory)" if code == -signal.SIGKILL else "")
        raise PipelineError(f"the TFF worker {reason}; its log is {self._log}")

    def stop(self) -> None:
        """Ends the worker and waits for it; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        self._enclosure.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _binary() -> Path:
    """The path of TFF's worker, without importing TFF (which takes seconds)."""
    package = find_spec("tensorflow_federated")
    if package is None or package.origin is None:
        raise PipelineError("tensorflow-federated is not installed in this Python: run 'make env', or use 'make repro'")
    path = Path(package.origin).parent / "data" / "worker_binary"
    if not path.is_file():
        raise PipelineError(f"{path} is missing: this build of tensorflow-federated has no worker (Linux x86-64 has)")
    return path
