"""What a person sees of a training while it runs: a progress bar on a terminal, one line per round elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from fedpipe.runtime.records import RoundRecord


@contextmanager
def reporting(log_file: Path, rounds: int, done: int = 0) -> Iterator[Callable[[RoundRecord, float], None]]:
    """Yields a function that reports a round's record and seconds; ``log_file`` gets one line per round, too.

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
    bar = tqdm(total=rounds, initial=done, desc="train", unit="round", disable=not sys.stderr.isatty())
    begin = time.perf_counter()

    def report(record: RoundRecord, seconds: float) -> None:
        line = record.line(rounds, seconds)
        log.info(line)
        if record.loss is not None:
            bar.set_postfix_str(f"loss {record.loss:.4f}, accuracy {record.accuracy:.4f}", refresh=False)
        bar.update()
        if bar.disable:
            left = (time.perf_counter() - begin) / (record.round - done) * (rounds - record.round)
            print(f"{line}, {left:.0f} s left", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        bar.close()
        log.removeHandler(handler)
        handler.close()


def say(line: str) -> None:
    """One line to standard error, above the progress bar if there is one."""
    tqdm.write(f"train: {line}", file=sys.stderr)
