"""Where a training's time goes, by phase of a round: what a slow run is explained with.

    read        the clients' shards, on the worker
    train       the clients' work on the worker, and the sums within a chunk
    aggregate   the sums of chunks, and the server's step
    evaluate    the global model on test samples
    checkpoint  saving the training
    deliver     writing down the round for MLflow

Clients work side by side, so the time for which a round waits for them is divided between read and train as their own
times are. None of this is an output of DVC.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedpipe.learning.measurements import READ, WORK, Measurement, Summed

PHASES = ("read", "train", "aggregate", "evaluate", "checkpoint", "deliver")
_CLIENTS = "clients"  # read and train together


class Phases:
    """Counts the seconds of each phase since the last round's end."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._read_share = 0.0

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds the time of the block to ``phase``; ``clients`` is read and train together."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def split_clients(self, measured: dict[str, Measurement]) -> None:
        """Takes the clients' own times out of what a round ``measured``, to divide the phase ``clients`` by."""
        read, work = (float(measured.pop(name, Summed(0)).total) for name in (READ, WORK))
        self._read_share = read / (read + work) if read + work else 0.0

    def end_round(self) -> dict[str, float]:
        """Seconds of each phase since the last call; checkpoint and deliver are those of the round before."""
        seconds, self._seconds = self._seconds, {}
        together = seconds.pop(_CLIENTS, 0.0)
        divided = {"read": together * self._read_share, "train": together * (1 - self._read_share)}
        return {phase: (divided | seconds).get(phase, 0.0) for phase in PHASES}


class PhaseLog:
    """``phases.csv``: one row per round with the seconds of each phase."""

    def __init__(self, path: Path, resumed: bool) -> None:
        """``resumed``: whether rows of an earlier process stay."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (resumed and path.exists()):
            path.write_text(",".join(("round", "clients", "seconds", *PHASES)) + "\n", encoding="utf-8")

    def add(self, number: int, clients: int, seconds: float, phases: Mapping[str, float]) -> None:
        """Appends the row of a round."""
        row = [number, clients, round(seconds, 4), *(round(phases[phase], 4) for phase in PHASES)]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)
