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
def reporting(log_file: Path, rounds: int) -> Iterator[Callable[[RoundRecord, float], None]]:
    """Yields a function that reports a round's record and seconds; ``log_file`` gets one line per round, too."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("fedpipe.train")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    bar = tqdm(total=rounds, desc="train", unit="round", disable=not sys.stderr.isatty())
    begin = time.perf_counter()

    def report(record: RoundRecord, seconds: float) -> None:
        line = record.line(rounds, seconds)
        log.info(line)
        bar.set_postfix_str(f"loss {record.loss:.4f}, accuracy {record.accuracy:.4f}", refresh=False)
        bar.update()
        if bar.disable:
            left = (time.perf_counter() - begin) / record.round * (rounds - record.round)
            print(f"{line}, {left:.0f} s left", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        bar.close()
        log.removeHandler(handler)
        handler.close()
