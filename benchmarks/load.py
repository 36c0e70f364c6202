"""Long and wide trainings: seconds per round and memory of driver and worker must stay flat.

    many clients    100,000 clients of six images, 1,000 per round, 50 rounds of baseline_cnn
    many rounds     2,000 rounds of ten clients of 20 images, logistic regression
    wide round      two rounds of 10,000 clients of six images, mcmahan_cnn (1.66 million weights)

Each case is a process of its own through the real code path: worker, engine and training loop. Stores its results in
benchmarks/results.json, and draws memory over the rounds to docs/images/load.png.

python -m benchmarks.load [--cases NAME ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.results import RESULTS, store

PICTURE = Path("docs/images/load.png")
_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A training: ``clients`` clients of ``images`` images each."""

    model: str
    clients: int
    images: int
    clients_per_round: int
    rounds: int


CASES = {
    "many clients": Case("baseline_cnn", 100_000, 6, 1_000, 50),
    "many rounds": Case("logistic_regression", 10, 20, 10, 2_000),
    "wide round": Case("mcmahan_cnn", 10_000, 6, 10_000, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(_run(CASES[arguments.run])))
        return
    from fedpipe import provenance

    cases = json.loads(RESULTS.read_text(encoding="utf-8")).get("load", {}) if RESULTS.exists() else {}
    for name in arguments.cases:
        command = [sys.executable, "-m", "benchmarks.load", "--run", name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cases[name] = _summary(name, json.loads(output.splitlines()[-1]))
    store(load=cases | {"machine": provenance.collect()})
    plot()


def _run(case: Case) -> list[dict[str, float]]:
    """One row per round: seconds, and resident bytes of driver and worker."""
    import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
    from benchmarks.workload import training_set
    from fedpipe.baseline import train_settings
    from fedpipe.datasets.shards import write_shards
    from fedpipe.runtime.worker import Worker

    settings = train_settings(
        model=case.model, rounds=case.rounds, clients_per_round=case.clients_per_round, evaluate_every=0
    )
    samples = case.clients * case.images
    images, labels = (np.resize(part, (samples, *part.shape[1:])) for part in training_set())
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, "mnist", images, labels, np.array_split(np.arange(samples), case.clients), 10)
        del images, labels
        with Worker(folder / "worker.log") as worker:
            from fedpipe.runtime.hooks import Callback
            from fedpipe.runtime.rounds import CompletedRound
            from fedpipe.runtime.training import prepare

            driver = psutil.Process()
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]

            def measure(completed: CompletedRound) -> None:
                of_worker = sum(process.memory_info().rss for process in family)
                memory = {"driver": driver.memory_info().rss, "worker": of_worker}
                rows.append({"seconds": completed.seconds, **memory})

            prepare(settings, folder, folder).run(worker, hooks=[Callback(measure)])
    return rows


def _summary(name: str, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the first and the last fifth after the first round, and the memory over the rounds for the picture."""
    later = rows[1:]
    fifth = max(len(later) // 5, 1)

    def ends(key: str) -> dict[str, float]:
        values = [row[key] for row in later]
        return {"early": float(np.median(values[:fifth])), "late": float(np.median(values[-fifth:]))}

    summary: dict[str, Any] = {key: ends(key) for key in ("seconds", "driver", "worker")}
    every = max(len(rows) // 200, 1)
    summary["memory"] = [[index + 1, row["driver"], row["worker"]] for index, row in enumerate(rows)][::every]
    seconds, driver, worker = (summary[key] for key in ("seconds", "driver", "worker"))
    print(
        f"{name:13} {len(rows):5} rounds: {seconds['early']:.3f} s per round early, {seconds['late']:.3f} late; driver "
        f"{driver['early'] / _MIB:.0f} MiB, {driver['late'] / _MIB:.0f}; worker {worker['early'] / _MIB:.0f} MiB, "
        f"{worker['late'] / _MIB:.0f}",
        flush=True,
    )
    return summary


def plot(path: Path = PICTURE) -> None:
    """Memory of driver and worker over the rounds, one panel per case of benchmarks/results.json."""
    from fedpipe.figures import picture

    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["load"]
    cases = {name: stored[name] for name in CASES if name in stored}

    with picture(path, 2.8 * len(cases), 3.2) as figure:
        panels = figure.subplots(1, len(cases), squeeze=False)[0]
        for panel, (name, case) in zip(panels, cases.items(), strict=True):
            rounds, driver, worker = zip(*case["memory"], strict=True)
            panel.plot(rounds, np.array(driver) / _MIB, label="driver")
            panel.plot(rounds, np.array(worker) / _MIB, label="worker")
            panel.set(title=name, xlabel="round", ylim=(0, None))
        panels[0].set(ylabel="MiB")
        panels[0].legend()


if __name__ == "__main__":
    main()
