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
from benchmarks.rounds import CORES, bound, downloaded_training_set, fedpipe, round_seconds, spread
from fedpipe import provenance
from fedpipe.datasets.shards import write_shards

CLIENTS, IMAGES, ROUNDS = 10_000, 6, 4
AT_MOST = 2.0  # times the bare steps
MEASURES = ("seconds", "cpu_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3, help="processes of each kind")
    processes = parser.parse_args().processes
    images, labels = downloaded_training_set()
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        members = list(np.arange(CLIENTS * IMAGES).reshape(CLIENTS, IMAGES))
        write_shards(Path(folder), "mnist", images, labels, members, 10)
        for turn in range(processes):
            ours = fedpipe(CLIENTS, ROUNDS, Path(folder))
            bare = bound("baseline_cnn", CLIENTS, ROUNDS, "", str(IMAGES))
            turns.append({m: {"fedpipe": round_seconds(ours, m), "bare": round_seconds(bare, m)} for m in MEASURES})
            print(f"turn {turn + 1}: {turns[-1]}", flush=True)
    ratios = {m: spread([turn[m]["fedpipe"] / turn[m]["bare"] for turn in turns]) for m in MEASURES}
    for measure, ratio in ratios.items():
        told = ", ".join(f"{name} {value:.2f}" for name, value in ratio.items())
        print(f"fedpipe / bare TensorFlow, {measure} of a round: {told} (at most {AT_MOST:g})")
    machine = provenance.collect() | {"cores": CORES}
    store(small_clients={"clients": CLIENTS, "images": IMAGES, "turns": turns, "ratios": ratios, "machine": machine})


if __name__ == "__main__":
    main()
