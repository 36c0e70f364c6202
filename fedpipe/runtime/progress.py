"""What a person sees of a training while it runs: a progress bar on a terminal, one line per round elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from fedpipe.runtime.records import RoundRecord

_LONG_SECONDS = 30.0  # without a terminal, a round that takes longer says so often how far it is


class Report:
    """Tells how a training goes on; `reporting` makes it."""

    def __init__(self, log: logging.Logger, rounds: int, done: int) -> None:
        self._log, self._rounds, self._done = log, rounds, done
        self._bar = tqdm(total=rounds, initial=done, desc="train", unit="round", disable=not sys.stderr.isatty())
        self._begin = self._round_begin = self._said = time.perf_counter()

    def round(self, record: RoundRecord, seconds: float) -> None:
        """Reports a round that has ended."""
        line = record.line(self._rounds, seconds)
        self._log.info(line)
        if accuracies := record.accuracies():
            self._bar.set_postfix_str(accuracies, refresh=False)
        self._bar.update()
        now = time.perf_counter()
        if self._bar.disable:
            left = (now - self._begin) / (record.round - self._done) * (self._rounds - record.round)
            print(f"{line}, {left:.0f} s left", file=sys.stderr, flush=True)
        self._round_begin = self._said = now

    def clients(self, number: int, asked: int, ended: int) -> None:
        """Reports how far round ``number`` is: ``ended`` of ``asked`` clients."""
        now = time.perf_counter()
        rate = ended / max(now - self._round_begin, 1e-9)
        said = f"{ended:,} of {asked:,} clients, {rate:,.1f} clients per second"
        if not self._bar.disable:
            self._bar.set_postfix_str(said)
        elif now - self._said > _LONG_SECONDS and ended < asked:
            self._said = now
            left = (asked - ended) / rate
            print(
                f"round {number}/{self._rounds}: {said}, {left:.0f} s left in this round", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


@contextmanager
def reporting(log_file: Path, rounds: int, done: int = 0) -> Iterator[Report]:
    """Yields what reports rounds; ``log_file`` gets one line per round, too.

    Args:
      log_file: Is written anew, or gets further lines if there are rounds ``done``.
      rounds: How many there are.
      done: How many of them an earlier process did.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log_file, mode="a" if done else "w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("fedpipe.train")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    report = Report(log, rounds, done)
    try:
        yield report
    finally:
        report.close()
        log.removeHandler(handler)
        handler.close()


def say(line: str) -> None:
    """One line to standard error, above the progress bar if there is one."""
    tqdm.write(f"train: {line}", file=sys.stderr)
