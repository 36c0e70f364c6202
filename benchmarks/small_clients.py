"""What federation costs where clients are small: 10,000 clients of six images each, one SGD step per client.

A round of this project beside the same steps in bare TensorFlow, one process per core; the model is `baseline_cnn`. A
round is to take at most twice as long. CPU seconds are compared too, since they depend less on what else is running.

python -m benchmarks.small_clients [--processes 3]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.subjects import CORES, bound, fedpipe, in_turn, median, ratio, spread
from fedpipe import provenance
from fedpipe.datasets.shards import write_shards

CLIENTS, IMAGES, TURNS = 10_000, 6, 5
AT_MOST = 2.0  # times the bare steps
MEASURES = ("seconds", "cpu_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3, help="processes of each kind")
    processes = parser.parse_args().processes
    images, labels = downloaded_training_set()
    medians, ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        members = list(np.arange(CLIENTS * IMAGES).reshape(CLIENTS, IMAGES))
        write_shards(Path(folder), "mnist", images, labels, members, 10)
        subjects = {
            "fedpipe": lambda: fedpipe(CLIENTS, Path(folder)),
            "bare": lambda: bound("baseline_cnn", CLIENTS, "", str(IMAGES)),
        }
        for process in range(processes):
            rounds, _ = in_turn(subjects, dict.fromkeys(subjects, TURNS))
            medians.append({m: {name: median(rounds[name], m) for name in subjects} for m in MEASURES})
            ratios.append({m: ratio(rounds["fedpipe"], rounds["bare"], m) for m in MEASURES})
            print(f"process {process + 1} of each: {medians[-1]}", flush=True)
    spreads = {m: spread([process[m] for process in ratios]) for m in MEASURES}
    for measure, found_ratios in spreads.items():
        listed = ", ".join(f"{name} {value:.2f}" for name, value in found_ratios.items())
        print(f"fedpipe / bare TensorFlow, {measure} of a round: {listed} (at most {AT_MOST:g})")
    machine = provenance.collect() | {"cores": CORES}
    figures = {"processes": medians, "ratios": spreads}
    store(small_clients={"clients": CLIENTS, "images": IMAGES, "machine": machine} | figures)


if __name__ == "__main__":
    main()
