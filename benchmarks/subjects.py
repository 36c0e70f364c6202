"""Subjects of a benchmark: processes that wait, and run one round per request.

All subjects are there at once and run a round each in turn, so the two rounds of a ratio lie seconds apart. The speed
of a machine that is shared with others changes by a third within minutes, in CPU seconds too. A subject that waits
costs nothing.

A subject's process prints a line of JSON when it is ready, and one for each line that it reads.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fedpipe import pinning

CORES = len(os.sched_getaffinity(0))

_END_SECONDS = 30  # a process that is in a round ends after it

Round = dict[str, float]  # a subject's figures of a round: seconds, cpu_seconds and others


class Subject:
    """Processes that run a round together, each its share; use as a context manager."""

    def __init__(self, *commands: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Starts ``python -m`` with each of the ``commands`` in a process group of its own."""
        self._commands, self._errors = commands, tempfile.TemporaryFile()  # noqa: SIM115 (`__exit__` closes it)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=env,
                text=True,
                start_new_session=True,
            )
            for command in commands
        ]
        self.ready: list[Round] = []

    def wait_until_ready(self) -> None:
        """Takes the processes' reports that they are ready."""
        self.ready = [self._next_line(process) for process in self._processes]

    def round(self) -> Round:
        """Runs a round, which takes as long as its slowest process; CPU seconds are those of all."""
        for process in self._processes:
            process.stdin.write("\n")
            process.stdin.flush()
        each = [self._next_line(process) for process in self._processes]
        more = {"cpu_seconds": sum(round["cpu_seconds"] for round in each)} if "cpu_seconds" in each[0] else {}
        return each[0] | more | {"seconds": max(round["seconds"] for round in each)}

    def __enter__(self) -> "Subject":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.stdin.close()  # so it ends, and removes its temporary files
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # stock TFF leaves its worker running
            process.wait()
            process.stdout.close()
        self._errors.close()

    def _next_line(self, process: "subprocess.Popen[str]") -> Round:
        line = process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._commands[0]} ended:\n{self._errors.read().decode()[-3000:]}")
        return json.loads(line)


def stock(clients: int, threads: Mapping[str, str]) -> Subject:
    """Stock TFF in the user's environment, without this project's pinning; ``threads`` is added to it."""
    env = {name: value for name, value in os.environ.items() if name not in pinning.PINNED} | dict(threads)
    return Subject(["benchmarks.stock_tff", str(clients)], env=env)


def fedpipe(clients: int, shards: Path, *options: str) -> Subject:
    """This project; ``options`` as benchmarks/fedpipe_rounds.py has them."""
    return Subject(["benchmarks.fedpipe_rounds", str(clients), str(shards), *options])


def bound(kind: str, clients: int, *options: str, processes: int = CORES) -> Subject:
    """Bare TensorFlow; ``kind`` and ``options`` as benchmarks/bare_tensorflow.py has them."""
    shares = [len(part) for part in np.array_split(np.arange(clients), min(processes, clients))]
    firsts = np.cumsum([0, *shares[:-1]])
    shares_of_all = zip(shares, firsts, strict=True)
    return Subject(
        *(["benchmarks.bare_tensorflow", kind, str(share), str(first), *options] for share, first in shares_of_all)
    )


def in_turn(
    subjects: Mapping[str, Callable[[], Subject]], rounds: Mapping[str, int], skipped: int = 1
) -> tuple[dict[str, list[Round]], dict[str, list[Round]]]:
    """Starts the subjects one after the other, then runs a round of each in turn.

    Args:
      subjects: What starts each.
      rounds: How many of each are counted; those with fewer leave out the last turns.
      skipped: So many rounds of each come before, uncounted: the first one compiles.

    Returns:
      The rounds of each, and what each said when it was ready.
    """
    with contextlib.ExitStack() as stack:
        started = {}
        for name, start in subjects.items():
            started[name] = stack.enter_context(start())
            started[name].wait_until_ready()
            for _ in range(skipped):
                started[name].round()
        measured: dict[str, list[Round]] = {name: [] for name in subjects}
        for turn in range(max(rounds.values())):
            for name, subject in started.items():
                if turn < rounds[name]:
                    measured[name].append(subject.round())
        return measured, {name: subject.ready for name, subject in started.items()}


def ratio(over: Sequence[Round], under: Sequence[Round], measure: str = "seconds") -> float:
    """The median over the turns of the ratio of two subjects' rounds."""
    return statistics.median(a[measure] / b[measure] for a, b in zip(over, under, strict=False))


def median(rounds: Sequence[Round], measure: str = "seconds") -> float:
    return statistics.median(each[measure] for each in rounds)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"minimum": min(values), "median": statistics.median(values), "maximum": max(values)}


def requested_rounds(ready: Round) -> Iterator[None]:
    """In a subject's process: reports that it is ready, then yields once per requested round."""
    answer(ready)
    for _ in sys.stdin:
        yield


def run_epochs(epoch: Callable[..., Any], initial: Sequence[Any], data: Sequence[tuple[Any, Any]]) -> None:
    """In a subject's process of bare steps: trains each client from the same weights, once per requested round.

    Args:
      epoch: (weights, samples, labels) -> weights, a `tf.function`.
      initial: The weights.
      data: Samples and labels of each client.
    """
    for x, y in data[:5]:
        epoch(initial, x, y)
    for _ in requested_rounds({}):
        start, cpu_start = time.perf_counter(), time.process_time()
        for x, y in data:
            weights = epoch(initial, x, y)
        weights[0].numpy()
        answer({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start})


def answer(figures: Round) -> None:
    """In a subject's process: reports the result of a round."""
    print(json.dumps(figures), flush=True)
