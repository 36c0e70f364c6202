"""Seconds and bytes per round on a Dask cluster of 1, 2 and 4 workers on this machine, beside training without one.

Each worker gets its share of this machine's cores, or a core that it shares with another. So more workers are no
faster; what shows is what the cluster costs. The driver and the scheduler may use all cores. CPU seconds are those of
all processes. Bytes are those that pass the loopback interface: messages and sums, through the scheduler and on from
it. (Other programs may use loopback, too.)
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.subjects import CORES, Round, Subject, in_turn, median, ratio
from fedpipe import provenance
from fedpipe.cluster.settings import ClusterSettings
from fedpipe.datasets.shards import write_shards
from fedpipe.system.certificates import make_certificates

ALONE = "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=10, help="of each, in turn")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    images, labels = downloaded_training_set()
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "clients"
        shards.mkdir()
        write_shards(shards, "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        subjects = {
            str(workers or ALONE): partial(OnCluster, Path(folder) / str(workers), workers, options.clients, shards)
            for workers in [0, *options.workers]
        }
        rounds, _ = in_turn(subjects, dict.fromkeys(subjects, options.rounds))
    print(
        f"\n{options.clients} clients, medians of a round: workers, seconds, beside none, CPU seconds, MB on the "
        "network"
    )
    by_workers = {}
    for workers, each in rounds.items():
        figures = {measure: median(each, measure) for measure in ("seconds", "cpu_seconds", "bytes")}
        by_workers[workers] = figures | {f"beside {ALONE}": ratio(each, rounds[ALONE])}
        beside, megabytes = by_workers[workers][f"beside {ALONE}"], figures["bytes"] / 1e6
        print(f"  {workers:>5} {figures['seconds']:8.3f} {beside:6.2f} {figures['cpu_seconds']:8.3f} {megabytes:8.2f}")
    machine = provenance.collect() | {"cores": CORES}
    store(cluster={"machine": machine, "clients": options.clients, "workers": by_workers})


class OnCluster(Subject):
    """A training on a scheduler and workers of its own, or on none."""

    def __init__(self, folder: Path, workers: int, clients: int, shards: Path) -> None:
        folder.mkdir()
        self._members: list[subprocess.Popen[str]] = []
        command = ["benchmarks.fedpipe_rounds", str(clients), str(shards), "baseline_cnn", "", "{}"]
        with ExitStack() as stack:  # which ends what has been started, if the rest cannot be
            if workers:
                self._members, settings = started(stack, folder, workers, shards)
                command.append(settings.model_dump_json())
            super().__init__(command)
            self._stack = stack.pop_all()

    def round(self) -> Round:
        """A round; its CPU seconds are those of all processes, its bytes those that passed the loopback interface."""
        processes = [*self._processes, *self._members]
        used, sent = cpu_seconds(processes), sent_bytes()
        figures = super().round()
        return figures | {"cpu_seconds": cpu_seconds(processes) - used, "bytes": sent_bytes() - sent}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._stack.close()


def started(
    stack: ExitStack, folder: Path, workers: int, shards: Path
) -> "tuple[list[subprocess.Popen[str]], ClusterSettings]":
    """A scheduler and workers, which end with ``stack``, and how the driver reaches them."""
    processes = []
    make_certificates(folder / "certificates")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tls://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "operations.cluster", "--certificates", str(folder / "certificates")]
    worker = [*command, "worker", address, "--host", "127.0.0.1", "--shards", str(shards), "--logs", str(folder)]
    lines = [[*command, "scheduler", address]]
    lines += [["taskset", "--cpu-list", cores_of(number, workers), *worker] for number in range(workers)]
    for number, line in enumerate(lines):
        log = folder / f"{number}.log"
        output = stack.enter_context(log.open("wb"))
        ready = folder / f"{number}.ready"
        process = subprocess.Popen([*line, "--ready", str(ready)], stdout=output, stderr=output, text=True)
        processes.append(process)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(0.1)
    return processes, ClusterSettings(address=address, certificates=folder / "certificates")


def cores_of(number: int, workers: int) -> str:
    """The cores of a worker, as taskset wants them."""
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[number::workers] or [cores[number % len(cores)]]
    return ",".join(map(str, mine))


def cpu_seconds(processes: "list[subprocess.Popen[str]]") -> float:
    """What these and all below them have used so far."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
            total += sum(each.user + each.system for each in times)
    return total


def sent_bytes() -> int:
    """Bytes that were sent over loopback since the machine started."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


if __name__ == "__main__":
    main()
