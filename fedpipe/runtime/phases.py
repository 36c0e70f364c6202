"""Where a training's time goes, by phase of a round, to explain a slow run.

    read        the clients' shards, on the worker
    train       the clients' work on the worker, and the sums within a chunk
    aggregate   the sums of chunks, and the server's step
    evaluate    the global model on test samples
    checkpoint  saving the training
    deliver     writing down the round for MLflow

Clients work side by side, so the time for which a round waits for them is divided between read and train as their own
times are. None of this is an output of DVC.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fedpipe.learning.measurements import READ, WORK, Measurement, Summed

PHASES = ("read", "train", "aggregate", "evaluate", "checkpoint", "deliver")
_CLIENTS = "clients"  # read and train together


class Phases:
    """Counts the seconds of each phase since the last round's end."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._read_share = 0.0

    @contextmanager
    def timed(self, phase: str | None) -> Iterator[None]:
        """Adds the time of the block to ``phase``, if it is one; ``clients`` is read and train together."""
        if phase is None:
            yield
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def split_clients(self, measured: dict[str, Measurement]) -> None:
        """Takes the clients' own times out of ``measured`` of a round, to divide the phase ``clients`` by."""
        read, work = (float(measured.pop(name, Summed(0)).total) for name in (READ, WORK))
        self._read_share = read / (read + work) if read + work else 0.0

    def end_round(self) -> dict[str, float]:
        """Seconds of each phase since the last call; checkpoint and deliver are those of the round before."""
        seconds, self._seconds = self._seconds, {}
        together = seconds.pop(_CLIENTS, 0.0)
        divided = {"read": together * self._read_share, "train": together * (1 - self._read_share)}
        return {phase: (divided | seconds).get(phase, 0.0) for phase in PHASES}
