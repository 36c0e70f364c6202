"""The cost of splitting data into 600 and into 100,000 clients: the stage alone, and with DVC's hashing and cache.

100,000 clients share MNIST's training images repeated ten times, six samples each. Each case runs in a temporary
project of its own, started cold by `python -m stages.partition` and by `dvc repro`, and is stored in
benchmarks/results.json with the bounds that the project has set itself.

python -m benchmarks.partition_scale [--cases NAME ...]
"""

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from benchmarks.results import store
from benchmarks.workload import training_set
from fedpipe import provenance
from fedpipe.datasets.raw import Split, describe
from layout import CLIENTS, RAW

ROOT = Path(__file__).parents[1]
PEAK_BOUND_MIB = 2048
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Case:
    """One partition of ``repeats`` times MNIST, and the seconds that the project allows for it."""

    clients: int
    repeats: int
    scheme: str
    bounds: dict[str, float]  # command: seconds


CASES = {
    "600 contiguous": Case(600, 1, "contiguous", {"stage": 5}),
    "100,000 contiguous": Case(100_000, 10, "contiguous", {"with_dvc": 180}),
    "100,000 iid": Case(100_000, 10, "iid", {"with_dvc": 180}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    names = parser.parse_args().cases
    if not RAW.exists():
        subprocess.run([sys.executable, "-m", "stages.download"], check=True)
    measured = {}
    for name in names:
        measured[name] = measure(CASES[name])
        _print(name, measured[name])
    machine = provenance.collect() | {"cores": len(os.sched_getaffinity(0))}
    store(partition={"machine": machine, "cases": measured})
    missed = [f"{name}: {bound}" for name, figures in measured.items() for bound in figures["missed"]]
    if missed:
        sys.exit(f"over the bound: {'; '.join(missed)}")


def measure(case: Case) -> dict[str, Any]:
    """What each command takes, which bounds were missed, and what is left on disk."""
    dvc = [sys.executable, "-m", "dvc"]
    with _project(case) as folder:
        commands = {"stage": watch([sys.executable, "-m", "stages.partition"], folder)}
        shutil.rmtree(folder / CLIENTS)
        commands["with_dvc"] = watch([*dvc, "repro", "--single-item", "partition"], folder)
        commands["unchanged"] = watch([*dvc, "status", "partition"], folder)
        files = [path for path in (folder / CLIENTS).rglob("*") if path.is_file()]
        missed = [f"{name} over {most} s" for name, most in case.bounds.items() if commands[name]["seconds"] > most]
        if any(took["peak_mib"] > PEAK_BOUND_MIB for took in commands.values()):
            missed.append(f"memory over {PEAK_BOUND_MIB} MiB")
        return {
            "commands": commands,
            "missed": missed,
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
        }


def _print(name: str, figures: dict[str, Any]) -> None:
    print(f"{name}: {figures['files']:,} files, {figures['bytes'] / 2**20:,.0f} MiB")
    for command, took in figures["commands"].items():
        print(
            f"  {command:10} {took['seconds']:7.1f} s, {took['cpu_seconds']:6.1f} s of CPU, "
            f"peak {took['peak_mib']:5,.0f} MiB",
            flush=True,
        )


@contextlib.contextmanager
def _project(case: Case) -> Iterator[Path]:
    """A DVC project in a temporary folder: this code, the repeated images as data/raw, and the case's params."""
    with tempfile.TemporaryDirectory(prefix="fedpipe-bench-") as name:
        folder = Path(name)
        for code in ("stages", "fedpipe"):
            shutil.copytree(ROOT / code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("layout.py", "dvc.yaml", "libraries.lock", ".dvcignore"):
            shutil.copy(ROOT / file, folder)
        settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        settings["partition"] |= {"clients": case.clients, "scheme": case.scheme}
        (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        (folder / "data/pool").mkdir(parents=True)
        shutil.copy(ROOT / "data/pool/ledger.csv", folder / "data/pool")
        _write_raw(folder / "data/raw", case.repeats)
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=folder, check=True)
        yield folder


def _write_raw(folder: Path, repeats: int) -> None:
    """MNIST as IDX files, its training images ``repeats`` times over."""
    folder.mkdir()
    images, labels = training_set()
    samples = repeats * len(labels)
    _write_idx(folder / "train-images", [samples, 28, 28], images, repeats)
    _write_idx(folder / "train-labels", [samples], labels, repeats)
    for kind in ("images-idx3", "labels-idx1"):
        shutil.copy(RAW / f"t10k-{kind}-ubyte", folder / f"t10k-{kind}-ubyte")
    train = Split(images="train-images", labels="train-labels")
    describe(folder, "mnist", train, Split(images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"))


def _write_idx(path: Path, shape: list[int], values: np.ndarray, repeats: int) -> None:
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes())  # 8 is uint8
        for _ in range(repeats):
            file.write(values.tobytes())


def watch(command: list[str], folder: Path, code: Path | None = None) -> dict[str, float]:
    """Runs ``command`` in ``folder``: seconds, CPU seconds, and the peak memory of it and its children together.

    The code is that of the folder ``code``, by default that of ``folder``. Memory is the sum of resident sets, polled,
    so that pages which processes share count more than once.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(code or folder), "DVC_NO_ANALYTICS": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peaks = [0]
        watcher = threading.Thread(target=_poll, args=(process, peaks))
        watcher.start()
        status = process.wait()
        seconds = time.perf_counter() - begin
        watcher.join()
        if status:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read().decode()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peaks[0] / 2**20}


def _poll(process: "subprocess.Popen[bytes]", peaks: list[int]) -> None:
    """Keeps in ``peaks[0]`` the most bytes that the process tree has had, until it has ended."""
    root = psutil.Process(process.pid)
    while process.returncode is None:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            for each in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += each.memory_info().rss
        peaks[0] = max(peaks[0], total)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
