"""CPU milliseconds per client of each algorithm, aggregator and compressor, beside FedAvg with the mean.

All train the baseline CNN on the same clients. Processes run in turn; a figure is the median over the turns, each
giving its median round after the first two (in the second, clients read for the first time what they keep), and ratios
are taken within a turn. CPU seconds of a round are those of driver and worker. Run it with nothing else running.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import store
from benchmarks.rounds import CORES, downloaded_training_set, run, spread
from fedpipe import pinning, provenance

ROUNDS = 6
SKIPPED = 2
KINDS = ("algorithm", "aggregator", "compressor")
BASELINE = "fed_avg"
NEED_EQUAL_WEIGHTS = ("q_fed_avg", "afl", "secure_sum", "dp_gaussian", "dp_ftrl", "local_dp")

Turn = dict[str, float]  # CPU milliseconds per client, by the name of the choice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="turns")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS[:1]), help="algorithm by default")
    parser.add_argument("--only", nargs="*", default=None, help="names to measure; all of the kinds by default")
    arguments = parser.parse_args()
    pinning.pin()
    from fedpipe.datasets.shards import write_shards

    images, labels = downloaded_training_set()
    wanted = choices(arguments.kinds, arguments.only)
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "shards")
        shards.mkdir()
        write_shards(shards, "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        turns = [measure(wanted, arguments.clients, shards, turn) for turn in range(arguments.processes)]
    report(wanted, turns)
    store(
        algorithms={
            "machine": provenance.collect() | {"cores": CORES},
            "clients": arguments.clients,
            "cpu_ms_per_client": {name: summary(name, turns) for name in wanted},
            "turns": turns,
        }
    )


def choices(kinds: list[str], only: list[str] | None) -> dict[str, dict[str, Any]]:
    """The changes of section train by the name of what they choose; FedAvg comes first."""
    from fedpipe.config.train import Train

    found: dict[str, dict[str, Any]] = {BASELINE: {}}
    for kind in kinds:
        for name in Train.CHOICES[kind].names:
            weighting = "uniform" if name in NEED_EQUAL_WEIGHTS else "examples"
            # The mean and no compression are what FedAvg has; asynchronous algorithms have no rounds of cohorts.
            asynchronous = hasattr(Train.CHOICES[kind].module(name), "asynchrony")
            same = asynchronous or name in (BASELINE, "mean", "no_compression")
            if not same and (only is None or name in only):
                found[name] = {kind: name, "client_weighting": weighting}
    return found


def measure(wanted: dict[str, dict[str, Any]], clients: int, shards: Path, turn: int) -> Turn:
    """CPU milliseconds per client of each, one process after the other."""
    found = {}
    for name, changes in wanted.items():
        command = ["benchmarks.fedpipe_rounds", str(clients), str(ROUNDS), str(shards)]
        result = run([*command, "baseline_cnn", "", json.dumps(changes)], dict(os.environ))
        found[name] = 1e3 * statistics.median(result["cpu_seconds"][SKIPPED:]) / clients
        print(f"turn {turn + 1}: {name}: {found[name]:.2f}", flush=True)
    return found


def summary(name: str, turns: list[Turn]) -> dict[str, dict[str, float]]:
    """Spreads over the turns, and of the ratios within each."""
    return {
        "fedpipe": spread([turn[name] for turn in turns]),
        f"beside {BASELINE}": spread([turn[name] / turn[BASELINE] for turn in turns]),
    }


def report(wanted: dict[str, dict[str, Any]], turns: list[Turn]) -> None:
    print(f"\n{'CPU ms per client, medians':36} {'fedpipe':>9} {f'beside {BASELINE}':>16}")
    for name in wanted:
        found = {key: value["median"] for key, value in summary(name, turns).items()}
        print(f"{name:36} {found['fedpipe']:9.2f} {found[f'beside {BASELINE}']:16.2f}")


if __name__ == "__main__":
    main()
