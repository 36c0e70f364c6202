"""What a person sees of a training while it runs: a progress bar on a terminal, one line per round elsewhere."""

import logging
import sys
import time
from pathlib import Path

from tqdm import tqdm

from fedpipe.runtime.rounds import CompletedRound, Hook

_LONG_SECONDS = 30.0  # without a terminal, a round that takes longer says so often how far it is


class Progress(Hook):
    """Reports each round to standard error and to a log file."""

    def __init__(self, log_file: Path, rounds: int, done: int = 0) -> None:
        """Opens the log and shows the bar.

        Args:
          log_file: Gets one line per round; it is written anew, or gets further lines if there are rounds ``done``.
          rounds: How many there are.
          done: How many of them an earlier process did.
        """
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(log_file, mode="a" if done else "w", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log = logging.getLogger("fedpipe.train")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.addHandler(self._handler)
        self._rounds, self._done = rounds, done
        self._bar = tqdm(total=rounds, initial=done, desc="train", unit="round", disable=not sys.stderr.isatty())
        self._begin = self._round_begin = self._shown = time.perf_counter()

    def on_clients(self, number: int, cohort: int, done: int) -> None:
        now = time.perf_counter()
        rate = done / max(now - self._round_begin, 1e-9)
        line = f"{done:,} of {cohort:,} clients, {rate:,.1f} clients per second"
        if not self._bar.disable:
            self._bar.set_postfix_str(line)
        elif now - self._shown > _LONG_SECONDS and done < cohort:
            self._shown = now
            left = (cohort - done) / rate
            print(
                f"round {number}/{self._rounds}: {line}, {left:.0f} s left in this round", file=sys.stderr, flush=True
            )

    def on_round_end(self, completed: CompletedRound) -> None:
        record = completed.record
        line = record.line(self._rounds, completed.seconds)
        self._log.info(line)
        if accuracies := record.accuracies():
            self._bar.set_postfix_str(accuracies, refresh=False)
        self._bar.update()
        now = time.perf_counter()
        if self._bar.disable:
            left = (now - self._begin) / (record.round - self._done) * (self._rounds - record.round)
            print(f"{line}, {left:.0f} s left", file=sys.stderr, flush=True)
        self._round_begin = self._shown = now

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._log.removeHandler(self._handler)
        self._handler.close()


def say(line: str) -> None:
    """One line to standard error, above the progress bar if there is one."""
    tqdm.write(f"train: {line}", file=sys.stderr)
