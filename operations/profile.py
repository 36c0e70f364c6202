"""``make profile``: where the time of a round goes, for the training of params.yaml over the shards that are there.

It runs a few rounds as stage train does, in a temporary folder, without MLflow and without checkpoints, and changes
nothing. The first round builds the graphs and is not counted.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from fedpipe import params
from fedpipe.command_line import make_command
from fedpipe.config.train import StopAt, Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import run_stage
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.runtime.worker import Worker
from layout import CLIENT_TESTS, CLIENTS, HELD_OUT_CLIENTS, PARAMS, RAW, VALIDATION


def main() -> None:
    """Runs the rounds and prints a table, one line per phase."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("profile"))
    parser.add_argument("--rounds", type=_more_than_one, default=4, help="how many, the first not counted (4)")
    rounds = parser.parse_args().rounds
    settings = params.load(Train, PARAMS).model_copy(update={"rounds": rounds, "stop_at": StopAt()})
    settings = params.with_client_weights(settings, CLIENTS, Manifest.read(CLIENTS))
    folders = RAW, CLIENTS, VALIDATION, CLIENT_TESTS, HELD_OUT_CLIENTS / "clients"
    samples = GlobalSamples.read(*folders) if settings.evaluate_every else None
    taken: list[dict[str, float]] = []
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Worker(Path(folder, "worker.log")) as worker:
        from fedpipe.runtime.hooks import Callback
        from fedpipe.runtime.phases import PHASES
        from fedpipe.runtime.rounds import CompletedRound
        from fedpipe.runtime.training import prepare

        start_up = time.perf_counter() - begin
        before = _cpu_seconds(worker.pid)

        def count(completed: CompletedRound) -> None:
            nonlocal before
            now = _cpu_seconds(worker.pid)
            of_round = {"seconds": completed.seconds, "clients": completed.record.clients or 0, "cpu": now - before}
            taken.append({**completed.phases, **of_round})
            before = now

        training = prepare(settings, CLIENTS, Path(folder))
        training.run(
            worker,
            evaluate=samples.measure if samples else None,
            evaluate_own=samples.measure_own if samples else None,
            hooks=[Callback(count)],
        )
        memory = _peak_bytes(worker.pid)
    counted = taken[1:]

    def mean(name: str) -> float:
        return sum(each[name] for each in counted) / len(counted)

    whole = mean("seconds")
    print(f"{settings.algorithm} on {settings.model}, {mean('clients'):g} clients per round, {len(counted)} rounds")
    print(f"{'phase':12} {'s per round':>12} {'share':>7}")
    known = {phase: mean(phase) for phase in PHASES if phase not in ("checkpoint", "deliver")}
    for phase, seconds in (known | {"other": max(whole - sum(known.values()), 0.0)}).items():
        print(f"{phase:12} {seconds:12.3f} {seconds / whole:7.1%}")
    print(f"{'together':12} {whole:12.3f}")
    print(
        f"{mean('clients') / whole:,.1f} clients per second; the worker used {mean('cpu') / whole:.2f} cores and at "
        f"most {memory / 2**20:,.0f} MiB; libraries loaded after {start_up:.1f} s, first round "
        f"{taken[0]['seconds']:.1f} s"
    )
    sys.stdout.flush()


def _family(pid: int) -> list[psutil.Process]:
    worker = psutil.Process(pid)
    return [worker, *worker.children(recursive=True)]


def _cpu_seconds(pid: int) -> float:
    """Of the worker and what shuts it in."""
    times = [process.cpu_times() for process in _family(pid)]
    return sum(each.user + each.system for each in times)


def _peak_bytes(pid: int) -> int:
    statuses = [Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8") for process in _family(pid)]
    return max(int(status.split("VmHWM:")[1].split()[0]) for status in statuses) * 1024


def _more_than_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} is no number from 2 on")
    return int(text)


if __name__ == "__main__":
    run_stage(main)
