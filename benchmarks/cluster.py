"""Seconds and bytes per round on a Dask cluster of 1, 2 and 4 workers on this machine, beside training without one.

Each worker gets its share of this machine's cores, or a core that it shares with another. So more workers are no
faster; what shows is what the cluster costs. The driver and the scheduler may use all cores. CPU seconds are those of
all processes. Bytes are those that pass the loopback interface: messages and sums, through the scheduler and on from
it. (Other programs may use loopback, too.)
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.workload import BATCH, LEARNING_RATE, network_of
from fedpipe import provenance
from fedpipe.baseline import train_settings
from fedpipe.cluster.certificates import make_certificates
from fedpipe.cluster.settings import ClusterSettings, opened
from fedpipe.datasets.shards import Manifest, write_shards
from fedpipe.runtime.worker import Worker
from fedpipe.seeds import Purpose, generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5, help="of each training; the first is left out")
    parser.add_argument("--passes", type=int, default=2, help="trainings of each kind, in turn")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    load = os.getloadavg()[0]  # what else the machine did
    images, labels = downloaded_training_set()
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "clients"
        shards.mkdir()
        write_shards(shards, "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        kinds = [0, *given.workers]
        rounds: dict[int, list[Round]] = {workers: [] for workers in kinds}
        for number in range(given.passes):
            for workers in kinds:
                with ExitStack() as stack:
                    place = Path(folder) / f"{number}-{workers}"
                    settings = started(stack, place, workers, shards) if workers else None
                    rounds[workers] += measure(given.clients, given.rounds, shards, settings)
    print(f"\n{given.clients} clients per round, medians: workers, seconds, CPU seconds, MB over the network")
    found = {}
    for workers, each in rounds.items():
        one = Round(*(statistics.median(figure) for figure in zip(*each, strict=True)))
        found[str(workers or "none")] = one._asdict()
        print(f"  {workers or 'none':>5} {one.seconds:8.3f} {one.cpu_seconds:8.3f} {one.bytes / 1e6:8.2f}")
    machine = provenance.collect() | {"cores": len(os.sched_getaffinity(0))}
    store(cluster={"machine": machine, "load_before": load, "clients": given.clients, "workers": found})


class Round(NamedTuple):
    """What a round cost."""

    seconds: float
    cpu_seconds: float
    bytes: float


def started(stack: ExitStack, folder: Path, workers: int, shards: Path) -> ClusterSettings:
    """A scheduler and workers, which end with ``stack``."""
    folder.mkdir()
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
        process = subprocess.Popen(line, stdout=output, stderr=output)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        while ": at " not in log.read_text(errors="replace"):
            if process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(0.1)
    return ClusterSettings(address=address, certificates=folder / "certificates")


def cores_of(number: int, workers: int) -> str:
    """The cores of a worker, as taskset wants them."""
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[number::workers] or [cores[number % len(cores)]]
    return ",".join(map(str, mine))


def measure(clients: int, rounds: int, shards: Path, cluster: ClusterSettings | None) -> list[Round]:
    """Each round after the first one."""
    settings = train_settings(
        rounds=rounds, batch_size=BATCH, client_optimizer={"learning_rate": LEARNING_RATE}, evaluate_every=0
    )
    real = Manifest.read(shards)
    manifest, folder = real.model_copy(update={"clients": clients}), Path("logs/bench")
    seconds: list[float] = []
    sent, used = [sent_bytes()], [cpu_seconds()]
    with Worker(folder / "worker.log") as worker, opened(cluster, settings, real.digest) as elsewhere:
        from fedpipe.runtime.training import train

        network = network_of("baseline_cnn", "")

        def on_round(_: object, took: float, __: object) -> None:
            seconds.append(took)
            sent.append(sent_bytes())
            used.append(cpu_seconds())

        weights = network.first_weights(generator(settings.seed, Purpose.INITIAL_WEIGHTS))
        train(network, settings, manifest, weights, shards, worker, on_round, folder=folder, elsewhere=elsewhere)
    each = zip(seconds, np.diff(used).tolist(), np.diff(sent).tolist(), strict=True)
    return [Round(*one) for one in each][1:]


def cpu_seconds() -> float:
    """What this process and all below it have used so far."""
    this = psutil.Process()
    total = 0.0
    for one in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def sent_bytes() -> int:
    """Bytes that were sent over loopback since the machine started."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


if __name__ == "__main__":
    main()
