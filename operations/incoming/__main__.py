"""``python -m operations.incoming``: take new batches into the pool.

python -m operations.incoming             checks the batches in data/incoming/; moves them into the pool or aside
python -m operations.incoming fetch URL   copies the batches that the pool does not have from a folder or bucket first
"""

import argparse
import sys

from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import run_stage
from layout import RAW
from operations.incoming.fetch import fetch
from operations.incoming.ingest import INCOMING, REJECTED, Ingested, ingest
from operations.retrain.lock import exclusive_lock


def take_in(url: str | None = None) -> Ingested:
    """Fetches from ``url``, if one is given, ingests, and prints one line per batch.

    Raises:
      PipelineError: As `fetch` and `ingest`, or the data set is not there to check batches against.
    """
    dataset = RawDataset.read(RAW)
    if url:
        names = fetch(url)
        _say(f"{len(names)} batches fetched from {url}")
    result = ingest(dataset)
    for entry in result.accepted:
        _say(f"{entry.batch}: {entry.samples:,} samples, pool version {entry.version}")
    for name in result.known:
        _say(f"{name}: in the pool already")
    for name, reason in result.rejected.items():
        _say(f"{name}: put aside in {REJECTED}: {reason}")
    for name in result.waiting:
        _say(f"{name}: left in {INCOMING} for now: a file of it or a .sha256 is not there yet")
    if not (result.accepted or result.known or result.rejected or result.waiting):
        _say(f"no batch in {INCOMING}")
    return result


def _say(line: str) -> None:
    # One line, whatever the name of a file: GitHub Actions takes some lines for commands.
    print(f"incoming: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fetching = parser.add_subparsers(dest="command").add_parser("fetch")
    fetching.add_argument("url")
    given = parser.parse_args()
    with exclusive_lock():
        take_in(given.url if given.command else None)


if __name__ == "__main__":
    run_stage(_main)
