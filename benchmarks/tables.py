"""The cost of a large table: a million rows of 50 columns of numbers over 1,000 clients.

First the stage partition, started cold (at most 30 s). Then a round of all clients, an epoch each with the model `mlp`
in batches of 20, beside the same steps in bare TensorFlow, one process per core (at most 1.15 times as long). CPU
seconds are compared too, since they depend less on what else is running. The rows are drawn from a seed.

python -m benchmarks.tables [--processes 3]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.partition_scale import watch
from benchmarks.results import store
from benchmarks.subjects import CORES, Subject, fedpipe, in_turn, median, ratio, spread
from fedpipe import provenance
from fedpipe.datasets.sources.arrays import write_samples
from fedpipe.samples.columns import Columns, NumberColumn
from fedpipe.samples.kind import Format

ROOT = Path(__file__).parents[1]
ROWS, COLUMNS, CLIENTS, TURNS = 1_000_000, 50, 1000, 5
BATCH, RATE = 20, 0.02
PARTITION_SECONDS, AT_MOST = 30.0, 1.15
MEASURES = ("seconds", "cpu_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3, help="processes of each kind")
    processes = parser.parse_args().processes
    with tempfile.TemporaryDirectory(prefix="fedpipe-bench-") as name:
        folder = Path(name)
        _write_project(folder)
        partition = watch([sys.executable, "-m", "stages.partition"], folder, ROOT)
        print(
            f"partition: {partition['seconds']:.1f} s, {partition['peak_mib']:.0f} MiB (at most {PARTITION_SECONDS:g} "
            "s)"
        )
        rounds = _rounds(folder / "data/clients", processes)
    for measure in MEASURES:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in rounds["ratios"][measure].items())
        print(f"fedpipe / bare TensorFlow, {measure} of a round: {listed} (at most {AT_MOST:g})")
    machine = provenance.collect() | {"cores": CORES}
    table = {"rows": ROWS, "columns": COLUMNS, "clients": CLIENTS, "machine": machine}
    store(tables=table | {"partition": partition} | rounds)


def _write_project(folder: Path) -> None:
    """The files of the download stage, and params that deal the rows evenly."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    labels = (samples @ rng.normal(size=COLUMNS) > 0).astype(np.uint8)
    columns = tuple(NumberColumn(name=f"column {place}") for place in range(COLUMNS))
    described = Format(samples="float32", columns=Columns(numbers=columns, label=("y",), classes=("0", "1")))
    (folder / "data/raw").mkdir(parents=True)
    train, test = (samples[:-1000], labels[:-1000]), (samples[-1000:], labels[-1000:])
    write_samples(folder / "data/raw", "million", 2, described, train, test)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["partition"] |= {"clients": CLIENTS, "scheme": "iid"}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _rounds(shards: Path, processes: int) -> dict[str, Any]:
    changes = '{"model": "mlp", "mlp": {"hidden": [64, 32]}}'
    shares = [len(part) for part in np.array_split(np.arange(CLIENTS), CORES)]
    firsts = np.cumsum([0, *shares[:-1]])
    bare = [
        ["benchmarks.bare_tables", str(shards), str(first), str(share), "mlp", str(BATCH), str(RATE)]
        for share, first in zip(shares, firsts, strict=True)
    ]
    subjects = {
        "fedpipe": lambda: fedpipe(CLIENTS, shards, "of_settings", "", changes),
        "bare": lambda: Subject(*bare),
    }
    medians, ratios = [], []
    for process in range(processes):
        turns, _ = in_turn(subjects, dict.fromkeys(subjects, TURNS))
        medians.append({m: {name: median(turns[name], m) for name in subjects} for m in MEASURES})
        ratios.append({m: ratio(turns["fedpipe"], turns["bare"], m) for m in MEASURES})
        print(f"process {process + 1} of each: {medians[-1]}", flush=True)
    return {"processes": medians, "ratios": {m: spread([each[m] for each in ratios]) for m in MEASURES}}


if __name__ == "__main__":
    main()
