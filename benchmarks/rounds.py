"""Seconds per round of stock TFF, of this project and of the machine's bound, in turn, in one go.

Prints a table and stores it with the machine's facts in benchmarks/results.json. The subjects run a round each in turn.
A figure is the median over the turns, a ratio is taken within a turn, and both are said for several processes of each
subject. Run it with nothing else running.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import store
from benchmarks.subjects import CORES, bound, fedpipe, in_turn, median, ratio, spread, stock
from benchmarks.workload import training_set
from fedpipe import provenance
from fedpipe.datasets.shards import write_shards
from layout import RAW

STOCK = "stock TFF, as installed"
STOCK_ONE_THREAD = "stock TFF, one thread per op"  # what makes it faster, if one knows
FEDPIPE = "fedpipe"
BOUND = "bound, textbook step"
OWN_BOUND = "bound, fedpipe's step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="processes of each kind")
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 600])
    arguments = parser.parse_args()
    images, labels = downloaded_training_set()
    report: dict[str, Any] = {"machine": provenance.collect() | {"cores": CORES}, "rounds": {}, "memory": {}}
    with tempfile.TemporaryDirectory() as folder:
        shards = {}
        for clients in (600, 3000):
            shards[clients] = Path(folder) / str(clients)
            shards[clients].mkdir()
            write_shards(shards[clients], "mnist", images, labels, np.array_split(np.arange(60_000), clients), 10)
        for clients in arguments.clients:
            report["rounds"][clients] = compare(clients, arguments.processes, shards[600])
        report["memory"] = memory(shards)
    store(**report)


def downloaded_training_set() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images and labels, downloaded if they are not there."""
    if not RAW.exists():
        subprocess.run([sys.executable, "-m", "stages.download"], check=True)
    return training_set()


def compare(clients: int, processes: int, shards: Path) -> dict[str, Any]:
    """Seconds per round of each subject, and the ratios within the turns, for so many ``processes`` of each."""
    subjects = {
        STOCK: lambda: stock(clients, {}),
        STOCK_ONE_THREAD: lambda: stock(clients, {"TF_NUM_INTRAOP_THREADS": "1"}),
        FEDPIPE: lambda: fedpipe(clients, shards),
        BOUND: lambda: bound("textbook", clients),
        OWN_BOUND: lambda: bound("baseline_cnn", clients),
    }
    turns, stock_turns = (24, 5) if clients <= 100 else (9, 2)
    rounds = {name: stock_turns if name in (STOCK, STOCK_ONE_THREAD) else turns for name in subjects}
    pairs = [(STOCK, FEDPIPE), (STOCK_ONE_THREAD, FEDPIPE), (FEDPIPE, BOUND), (FEDPIPE, OWN_BOUND)]
    medians, ratios, startup = [], [], []
    for process in range(processes):
        measured, ready = in_turn(subjects, rounds)
        medians.append({name: median(measured[name]) for name in subjects})
        ratios.append({f"{over} / {under}": ratio(measured[over], measured[under]) for over, under in pairs})
        startup.append(ready[FEDPIPE][0]["startup"])
        listed = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians[-1].items())
        print(f"{clients} clients, process {process + 1} of each: {listed}", flush=True)
    summary = {name: spread([process[name] for process in medians]) for name in medians[0]}
    summary_of_ratios = {name: spread([process[name] for process in ratios]) for name in ratios[0]}
    print(f"\n{clients} clients, seconds per round over {processes} processes (minimum, median, maximum)")
    for name, values in (summary | summary_of_ratios).items():
        print(f"  {name:40} {values['minimum']:8.3f} {values['median']:8.3f} {values['maximum']:8.3f}")
    print(f"  {'start-up before the first round':40} {spread(startup)['median']:17.1f} s\n", flush=True)
    figures = {"seconds": summary, "ratios": summary_of_ratios, "startup_seconds": spread(startup)}
    return figures | {"processes": [{"seconds": a, "ratios": b} for a, b in zip(medians, ratios, strict=True)]}


def memory(shards: dict[int, Path]) -> dict[str, Any]:
    """Peak memory of driver and worker over 100, 600 and 3,000 clients of the same data set."""
    peaks: dict[str, Any] = {}
    for clients in (100, 600, 3000):
        with fedpipe(clients, shards[600 if clients <= 600 else clients]) as subject:
            subject.wait_until_ready()
            last = [subject.round() for _ in range(2)][-1]
        peaks[str(clients)] = {key: last[key] for key in ("driver_peak_bytes", "worker_peak_bytes")}
        print(
            f"{clients:5} clients: peak memory of driver {last['driver_peak_bytes'] / 2**20:.0f} MiB, "
            f"of worker {last['worker_peak_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    return peaks


if __name__ == "__main__":
    main()
