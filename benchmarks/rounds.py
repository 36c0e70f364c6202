"""Seconds per round of stock TFF, of this project and of the machine's bound, interleaved, in one go.

Prints a table and stores it with the machine's facts in benchmarks/results.json. A process can be fast or slow as a
whole, so each figure is the median over several processes, each giving its median round after the first; ratios are
taken within a turn, when the machine is in one mood. Run it with nothing else running.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import store
from benchmarks.workload import training_set
from fedpipe import pinning, provenance
from fedpipe.datasets.shards import write_shards
from layout import RAW

CORES = len(os.sched_getaffinity(0))

STOCK = "stock TFF, as installed"
STOCK_ONE_THREAD = "stock TFF, one thread per op"  # what makes it faster, if one knows
FEDPIPE = "fedpipe"
BOUND = "bound, textbook step"
OWN_BOUND = "bound, fedpipe's step"


def run(command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Runs a subject in a process group of its own and returns its JSON line; ends what it leaves behind."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=errors, env=env, start_new_session=True
        )
        code = process.wait()
        # Stock TFF leaves its worker running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        if code:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read().decode()[-3000:]}")
        output.seek(0)
        return json.loads(output.read().decode().strip().splitlines()[-1])


def stock(clients: int, rounds: int, threads: dict[str, str]) -> dict[str, Any]:
    """Stock TFF in the user's environment, without this project's pinning; ``threads`` is added to it."""
    env = {name: value for name, value in os.environ.items() if name not in pinning.PINNED} | threads
    return run(["benchmarks.stock_tff", str(clients), str(rounds)], env)


def fedpipe(clients: int, rounds: int, shards: Path, *model: str) -> dict[str, Any]:
    return run(["benchmarks.fedpipe_rounds", str(clients), str(rounds), str(shards), *model], dict(os.environ))


def bound(kind: str, clients: int, rounds: int, *options: str, processes: int = CORES) -> dict[str, Any]:
    """Processes of bare TensorFlow, started together; a round takes as long as its slowest process."""
    shares = [len(part) for part in np.array_split(np.arange(clients), min(processes, clients))]
    firsts = np.cumsum([0, *shares[:-1]])
    with contextlib.ExitStack() as stack:
        started = []
        for share, first in zip(shares, firsts, strict=True):
            asked = [kind, str(share), str(first), str(rounds), *options]
            command = [sys.executable, "-m", "benchmarks.bare_tensorflow", *asked]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            process.stdout.readline()  # it has warmed up; none starts before all have
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        each = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in started]
    return {
        "seconds": [max(parts) for parts in zip(*(one["seconds"] for one in each), strict=True)],
        "cpu_seconds": [sum(parts) for parts in zip(*(one["cpu_seconds"] for one in each), strict=True)],
    }


def round_seconds(result: dict[str, Any], which: str = "seconds") -> float:
    """The median round after the first, which compiles."""
    return statistics.median(result[which][1:])


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
    """Seconds per round of each subject, ``processes`` turns, and the ratios within each turn."""
    rounds, stock_rounds = (12, 5) if clients <= 100 else (5, 3)
    subjects = {
        STOCK: lambda: stock(clients, stock_rounds, {}),
        STOCK_ONE_THREAD: lambda: stock(clients, stock_rounds, {"TF_NUM_INTRAOP_THREADS": "1"}),
        FEDPIPE: lambda: fedpipe(clients, rounds, shards),
        BOUND: lambda: bound("textbook", clients, rounds),
        OWN_BOUND: lambda: bound("baseline_cnn", clients, rounds),
    }
    turns: list[dict[str, float]] = []
    startup = []
    for turn in range(processes):
        seconds = {}
        for name, subject in subjects.items():
            result = subject()
            seconds[name] = round_seconds(result)
            if name == FEDPIPE:
                startup.append(result["startup"])
        turns.append(seconds)
        print(
            f"{clients} clients, turn {turn + 1}: " + ", ".join(f"{k} {v:.3f} s" for k, v in seconds.items()),
            flush=True,
        )
    summary = {name: spread([turn[name] for turn in turns]) for name in subjects}
    pairs = [(STOCK, FEDPIPE), (STOCK_ONE_THREAD, FEDPIPE), (FEDPIPE, BOUND), (FEDPIPE, OWN_BOUND)]
    ratios = {f"{over} / {under}": spread([turn[over] / turn[under] for turn in turns]) for over, under in pairs}
    print(f"\n{clients} clients, seconds per round over {processes} processes (minimum, median, maximum)")
    for name, values in (summary | ratios).items():
        print(f"  {name:40} {values['minimum']:8.3f} {values['median']:8.3f} {values['maximum']:8.3f}")
    print(f"  {'start-up before the first round':40} {statistics.median(startup):17.1f} s\n", flush=True)
    return {"seconds": summary, "ratios": ratios, "turns": turns, "startup_seconds": spread(startup)}


def spread(values: list[float]) -> dict[str, float]:
    return {"minimum": min(values), "median": statistics.median(values), "maximum": max(values)}


def memory(shards: dict[int, Path]) -> dict[str, Any]:
    """Peak memory of driver and worker over 100, 600 and 3,000 clients of the same data set."""
    found = {}
    for clients in (100, 600, 3000):
        result = fedpipe(clients, 3, shards[600 if clients <= 600 else clients])
        found[clients] = {key: result[key] for key in ("driver_peak_bytes", "worker_peak_bytes")}
        print(
            f"{clients:5} clients: peak memory of driver {result['driver_peak_bytes'] / 2**20:.0f} MiB, "
            f"of worker {result['worker_peak_bytes'] / 2**20:.0f} MiB",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main()
