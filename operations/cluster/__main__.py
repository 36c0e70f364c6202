"""``python -m operations.cluster``: starts what a cluster consists of.

certificates         makes a CA, and certificates for scheduler, workers and driver
scheduler ADDRESS    runs the scheduler, at tls://host:port
worker ADDRESS       runs a worker of that scheduler
local                runs a scheduler and some workers on this machine, for trying it
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.cluster.processes import run_scheduler, run_worker
from fedpipe.cluster.settings import ADDRESS, CERTIFICATES, dask_address, require_dask
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.system.certificates import ROLES, make_certificates
from fedpipe.system.children import Child, end_child, start_child
from layout import CLIENTS, CLUSTER_LOGS

_LOCAL = "tls://127.0.0.1:8786"
_END_SECONDS = 10.0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line, or ``given`` in their place."""
    parser = argparse.ArgumentParser(
        prog="python -m operations.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--certificates", type=Path, default=Path("certificates"), help="their folder (certificates)")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("certificates", **make_command("certificates"))
    make.add_argument("names", nargs="*", default=list(ROLES), help="whom they are for (scheduler worker driver)")
    scheduler = commands.add_parser("scheduler")
    scheduler.add_argument("address", help="tls://host:port to listen at")
    scheduler.add_argument(
        "--silent-seconds", type=float, default=30.0, help="after which a worker counts as gone (30)"
    )
    worker = commands.add_parser("worker")
    worker.add_argument("address", help="tls://host:port of the scheduler")
    worker.add_argument("--shards", type=Path, default=CLIENTS, help="their folder (data/clients)")
    worker.add_argument("--logs", type=Path, default=CLUSTER_LOGS, help="folder for logs (logs/cluster)")
    worker.add_argument("--host", help="address of this machine to listen at; by default the one facing the scheduler")
    for server in (scheduler, worker):
        server.add_argument("--ready", type=Path, help="file that gets its address when it is ready, for programs")
    local = commands.add_parser("local", **make_command("cluster"))
    local.add_argument("--address", default=_LOCAL, help=f"of the scheduler ({_LOCAL})")
    local.add_argument("--workers", type=_count, metavar="N", default=2, help="how many (2)")
    return parser.parse_args(argv)


def main() -> None:
    """Runs the command that the first argument names."""
    args = arguments()
    if args.command == "certificates":
        written = make_certificates(args.certificates, args.names)
        for file in written:
            print(f"certificates: wrote {file}")
        if not written:
            print(f"certificates: all of them are in {args.certificates} already")
    elif args.command == "scheduler":
        run_scheduler(args.address, args.certificates, args.silent_seconds, lambda at: _is_ready(args, at))
    elif args.command == "worker":
        run_worker(args.address, args.certificates, args.shards, args.logs, args.host, lambda at: _is_ready(args, at))
    else:
        run_local(args.address, args.workers, args.certificates)


def run_local(address: str, workers: int, certificates: Path) -> None:
    """Runs a scheduler and ``workers`` workers here until Ctrl-C or SIGTERM.

    Raises:
      PipelineError: The address is not right, or the scheduler or all workers ended.
    """
    dask_address(address)
    require_dask()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    make_certificates(certificates)
    ours = [sys.executable, "-m", "operations.cluster", "--certificates", str(certificates)]
    logs = CLUSTER_LOGS
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ready = logs / "scheduler.ready"
        ready.unlink(missing_ok=True)
        commands = {"scheduler": [*ours, "scheduler", address, "--ready", str(ready)]}
        commands |= {f"worker-{n}": [*ours, "worker", address, "--host", "127.0.0.1"] for n in range(1, workers + 1)}
        started = {}
        for name, command in commands.items():
            process = start_child(command, logs / f"{name}.log")
            stack.callback(end_child, process, _END_SECONDS)
            started[name] = process
            if name == "scheduler":
                _wait_for(process, ready, logs / "scheduler.log")
        many = "1 worker" if workers == 1 else f"{workers} workers"
        print(f"cluster: a scheduler and {many} at {address}; their logs are in {logs} (Ctrl-C ends them)")
        variables = f"{ADDRESS}={address}"
        if certificates != Path("certificates"):
            variables += f" {CERTIFICATES}={certificates}"
        print(f"cluster: in another terminal, say `{variables} make repro`", flush=True)
        gone: set[str] = set()
        while len(gone) < len(started) - 1:
            time.sleep(0.5)
            for name, process in started.items():
                if process.poll() is not None and name not in gone:
                    gone.add(name)
                    if name == "scheduler":
                        raise PipelineError(f"the scheduler ended; its log is {logs / 'scheduler.log'}")
                    print(f"cluster: {name} ended; its log is {logs / name}.log", flush=True)
        raise PipelineError("all workers ended")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"should be a number from 1 on, not {text}")
    return int(text)


def _wait_for(scheduler: Child, ready: Path, log: Path) -> None:
    """Waits until the scheduler listens."""
    while not ready.exists():
        if scheduler.poll() is not None:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["its log is empty"]
            raise PipelineError(f"the scheduler ended at once: {last[0].removeprefix('error: ')}")
        time.sleep(0.1)


def _is_ready(args: argparse.Namespace, address: str) -> None:
    """Tells people, and programs that wait, that a scheduler or worker is at ``address``."""
    print(f"{args.command}: at {address}", flush=True)
    if args.ready is not None:
        write_text(args.ready, f"{address}\n")


if __name__ == "__main__":
    run_stage(main)
