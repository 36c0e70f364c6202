"""A scheduler or a worker of the cluster, as a process that runs until a signal ends it."""

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedpipe import installed
from fedpipe.cluster import member_side
from fedpipe.cluster.connections import NO_HTTP, configure, security
from fedpipe.cluster.settings import dask_address, require_dask
from fedpipe.errors import PipelineError
from fedpipe.runtime.facts import LIBRARIES, code

_END_SECONDS = 5.0
_JOIN_SECONDS = 10.0
_RETRY_SECONDS = 2.0
_ENDING = (signal.SIGINT, signal.SIGTERM)


def run_scheduler(address: str, certificates: Path, silent_seconds: float, ready: Callable[[str], None]) -> None:
    """Runs the scheduler at ``address``; ``ready`` is called with its address.

    Raises:
      PipelineError: A certificate is missing, the address is in use, or Dask is not installed.
    """
    require_dask()
    where = dask_address(address)
    safe = security(where, certificates, "scheduler")
    configure(silent_seconds)
    from distributed import Scheduler

    async def run() -> None:
        host, port = where.partition("://")[2].rsplit(":", 1)
        protocol = where.partition("://")[0]
        try:
            scheduler = await Scheduler(host=host, port=int(port), protocol=protocol, security=safe, **NO_HTTP)
        except (OSError, RuntimeError) as error:
            why = error.__cause__ or error
            raise PipelineError(f"the scheduler cannot listen at {address}: {getattr(why, 'strerror', why)}") from None
        ready(scheduler.address)
        await _told_to_end(scheduler)
        await scheduler.close(reason="it was told to end")

    asyncio.run(run())


def run_worker(
    address: str, certificates: Path, shards: Path, logs: Path, host: str | None, ready: Callable[[str], None]
) -> None:
    """Runs a worker of the scheduler at ``address``; it comes back when the scheduler took it for lost.

    Args:
      address: tls://host:port.
      certificates: The folder with the worker's certificate.
      shards: The folder of the shards on this machine.
      logs: Where the log of its TFF worker goes.
      host: The address of this machine to listen at; by default the one that reaches the scheduler.
      ready: Called with its address, each time that it has joined.

    Raises:
      PipelineError: A certificate is missing, Dask is not installed, or libraries are not those of the lock.
    """
    require_dask()
    installed.require(LIBRARIES)
    where = dask_address(address)
    safe = security(where, certificates, "worker")
    configure()
    logging.getLogger("distributed").setLevel(logging.WARNING)  # or a line each tenth of a second while it tries
    member_side.shards, member_side.logs, member_side.code_at_start = shards, logs, code()
    from distributed import Worker

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="fedpipe-dask-") as scratch:
            while True:
                worker = Worker(
                    where,
                    nthreads=slots(),
                    host=host,
                    security=safe,
                    local_directory=scratch,
                    memory_limit=0,
                    death_timeout=_JOIN_SECONDS,
                    **NO_HTTP,
                )
                try:
                    await worker
                except (OSError, ValueError, RuntimeError) as error:
                    why = error or type(error).__name__
                    print(f"worker: the scheduler at {address} does not let it in ({why}); tries again", flush=True)
                    await worker.close(timeout=_END_SECONDS)
                    if await _told_to_end(None, _RETRY_SECONDS):
                        return
                    continue
                ready(worker.address)
                if await _told_to_end(worker):
                    await worker.close(timeout=_END_SECONDS)
                    return

    try:
        asyncio.run(run())
    finally:
        member_side.close()


def slots() -> int:
    """How many groups keep the cores of this machine busy: twice as many as TFF computes at once (`Worker`).

    Dask's threads do no work, they wait for the TFF worker.
    """
    return 2 * (len(os.sched_getaffinity(0)) + 1)


async def _told_to_end(server: Any, seconds: float | None = None) -> bool:
    """Waits for a signal (True), or for the end of ``server`` or of so many ``seconds`` (False)."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in _ENDING:
        loop.add_signal_handler(number, ending.set)
    waiting = [asyncio.ensure_future(ending.wait())]
    if server is not None:
        waiting.append(asyncio.ensure_future(server.finished()))
    done, pending = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return waiting[0] in done
