"""CPU milliseconds per client of each algorithm, aggregator and compressor, beside FedAvg with the mean.

All train the baseline CNN on the same clients. FedAvg and a few others at a time run a round each in turn; a figure
is the median over the turns, and ratios are taken within a turn. CPU seconds of a round are those of driver and worker.
Run it with nothing else running.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.subjects import CORES, fedpipe, in_turn, median, ratio, spread
from fedpipe import pinning, provenance

TURNS = 15
SKIPPED = 2  # in the second round, clients read for the first time what they keep
AT_ONCE = 6  # a driver and its worker take 0.9 GiB
KINDS = ("algorithm", "aggregator", "compressor")
BASELINE = "fed_avg"
BESIDE = f"beside {BASELINE}"
NEED_EQUAL_WEIGHTS = ("q_fed_avg", "afl", "secure_sum", "dp_gaussian", "dp_ftrl", "local_dp")

Measured = dict[str, dict[str, float]]  # by the name of the choice: CPU milliseconds per client, and beside FedAvg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="processes of each")
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
        measured = [measure(wanted, arguments.clients, shards) for _ in range(arguments.processes)]
    report(wanted, measured)
    figures = {
        "machine": provenance.collect() | {"cores": CORES},
        "clients": arguments.clients,
        "cpu_ms_per_client": {name: summary(name, measured) for name in wanted},
    }
    store(**{"_and_".join(f"{kind}s" for kind in arguments.kinds): figures})


def choices(kinds: list[str], only: list[str] | None) -> dict[str, dict[str, Any]]:
    """The changes of section train by the name of what they choose; FedAvg comes first."""
    from fedpipe.config.train import Train
    from fedpipe.contracts.algorithm import ALGORITHMS

    settings: dict[str, dict[str, Any]] = {BASELINE: {}}
    for kind in kinds:
        for name in Train.CHOICES[kind].names:
            weighting = "uniform" if name in NEED_EQUAL_WEIGHTS else "examples"
            # The mean and no compression are what FedAvg has; asynchronous algorithms have no rounds of cohorts.
            asynchronous = kind == "algorithm" and ALGORITHMS.of(name).is_asynchronous
            # FedBN has no model in common with them.
            same = asynchronous or name in (BASELINE, "fed_bn", "mean", "no_compression")
            if not same and (only is None or name in only):
                settings[name] = {kind: name, "client_weighting": weighting}
    return settings


def measure(wanted: dict[str, dict[str, Any]], clients: int, shards: Path) -> Measured:
    """A process of each, FedAvg and a few others at a time."""
    measured: Measured = {}
    others = [name for name in wanted if name != BASELINE]
    for first in range(0, max(len(others), 1), AT_ONCE):
        names = [BASELINE, *others[first : first + AT_ONCE]]
        subjects = {
            name: partial(fedpipe, clients, shards, "baseline_cnn", "", json.dumps(wanted[name])) for name in names
        }
        rounds, _ = in_turn(subjects, dict.fromkeys(names, TURNS), SKIPPED)
        for name in names:
            measured[name] = {
                "fedpipe": 1e3 * median(rounds[name], "cpu_seconds") / clients,
                BESIDE: ratio(rounds[name], rounds[BASELINE], "cpu_seconds"),
            }
            figures = ", ".join(f"{figure} {value:.2f}" for figure, value in measured[name].items())
            print(f"{name}: {figures}", flush=True)
    return measured


def summary(name: str, measured: list[Measured]) -> dict[str, dict[str, float]]:
    """Spreads over the processes."""
    return {figure: spread([process[name][figure] for process in measured]) for figure in ("fedpipe", BESIDE)}


def report(wanted: dict[str, dict[str, Any]], measured: list[Measured]) -> None:
    print(f"\n{'CPU ms per client, medians':36} {'fedpipe':>9} {BESIDE:>16}")
    for name in wanted:
        medians = {figure: value["median"] for figure, value in summary(name, measured).items()}
        print(f"{name:36} {medians['fedpipe']:9.2f} {medians[BESIDE]:16.2f}")


if __name__ == "__main__":
    main()
