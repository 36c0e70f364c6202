"""Seconds per round with the worker's memory from glibc, and from TensorFlow's allocator for oneDNN.

The two differ while the cores that are used have no cache in common. On a virtual machine that can change within
seconds, so look at the slowest rounds too. Bare TensorFlow, in a process per core, shares no memory between cores.

python -m benchmarks.worker_memory [--rounds 100]
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.subjects import CORES, Subject, bound, fedpipe, in_turn
from fedpipe import provenance
from fedpipe.datasets.shards import write_shards

CLIENTS = 100
TENSORFLOWS = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "0"}  # fedpipe/runtime/worker.py leaves what is set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="of each, in turn")
    rounds = parser.parse_args().rounds
    images, labels = downloaded_training_set()
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        command = ["benchmarks.fedpipe_rounds", str(CLIENTS), folder]
        subjects = {
            "glibc": partial(fedpipe, CLIENTS, Path(folder)),
            "TensorFlow's allocator": partial(Subject, command, env=os.environ | TENSORFLOWS),
            "bare TensorFlow": partial(bound, "baseline_cnn", CLIENTS),
        }
        measured, _ = in_turn(subjects, dict.fromkeys(subjects, rounds))
    print(f"{CLIENTS} clients, seconds per round: 10th percentile, median, 90th percentile, over {rounds} rounds")
    seconds = {}
    for name, each in measured.items():
        percentiles = np.percentile([turn["seconds"] for turn in each], [10, 50, 90]).tolist()
        seconds[name] = dict(zip(("percentile_10", "median", "percentile_90"), percentiles, strict=True))
        print(f"  {name:24}" + "".join(f"{value:8.3f}" for value in percentiles))
    machine = provenance.collect() | {"cores": CORES}
    store(worker_memory={"machine": machine, "clients": CLIENTS, "rounds": rounds, "seconds": seconds})


if __name__ == "__main__":
    main()
