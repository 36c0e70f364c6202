"""The display of a training while it runs: one line per round, and on a terminal a progress bar below them."""

import logging
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fedpipe.runtime.rounds import CompletedRound, Hook

_LONG_SECONDS = 30.0  # without a terminal, a round that takes longer says so often how far it is
_BAR = "{desc} {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"  # within 80 columns


class Progress(Hook):
    """Reports each round to standard error and to a log file."""

    def __init__(self, log_file: Path, rounds: int, done: int = 0, shown: bool = True) -> None:
        """Opens the log and, on a terminal, shows the bar.

        Args:
          log_file: Gets one line per round; it is written anew, or gets further lines if there are rounds ``done``.
          rounds: How many there are.
          done: How many of them an earlier process did.
          shown: Whether standard error gets anything.
        """
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(log_file, mode="a" if done else "w", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log = logging.getLogger("fedpipe.train")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.addHandler(self._handler)
        self._rounds, self._done = rounds, done
        self._shows = shown
        notebook = _bar_of_a_notebook()
        self._bar = (notebook or tqdm)(
            total=rounds,
            initial=done,
            desc="round",
            bar_format=_BAR,
            disable=not (shown and (_has_terminal() or notebook is not None)),
        )
        self._begin = self._round_begin = self._shown = time.perf_counter()

    def on_clients(self, number: int, cohort: int, done: int) -> None:
        now = time.perf_counter()
        rate = done / max(now - self._round_begin, 1e-9)
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{done:,} of {cohort:,} clients, {rate:,.1f} per second")
        elif self._shows and now - self._shown > _LONG_SECONDS and done < cohort:
            self._shown = now
            left = (cohort - done) / rate
            print(
                f"round {number}/{self._rounds}: {done:,} of {cohort:,} clients, {rate:,.1f} clients per second, "
                f"{left:.0f} s left in this round",
                file=sys.stderr,
                flush=True,
            )

    def on_round_end(self, completed: CompletedRound) -> None:
        record, now = completed.record, time.perf_counter()
        self._log.info(record.line(self._rounds, completed.seconds))
        left = (now - self._begin) / (record.round - self._done) * (self._rounds - record.round)
        if self._shows:
            tqdm.write(record.short_line(self._rounds, left), file=sys.stderr)  # above the bar
        self._bar.set_postfix_str("", refresh=False)
        self._bar.update()
        sys.stderr.flush()
        self._round_begin = self._shown = now

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._log.removeHandler(self._handler)
        self._handler.close()


def _has_terminal() -> bool:
    """Whether standard error can show a bar; a notebook's cannot, whatever it says."""
    return sys.stderr.isatty() and not _is_notebook()


def _is_notebook() -> bool:
    return "ipykernel" in sys.modules


def _bar_of_a_notebook() -> "type[tqdm[Any]] | None":
    """The class of tqdm's widget; None outside of a notebook, or without ipywidgets, of which tqdm.auto would warn."""
    if not _is_notebook() or find_spec("ipywidgets") is None:
        return None
    from tqdm.notebook import tqdm as widget

    return widget


def say(line: str) -> None:
    """One line to standard error, above the progress bar if there is one."""
    tqdm.write(f"train: {line}", file=sys.stderr)
