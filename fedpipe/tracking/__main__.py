"""``python -m fedpipe.tracking follow JOURNAL``: deliver a journal to MLflow while it is written. Stages start this.

MLFLOW_TRACKING_URI names the store.
"""

import argparse
import os
from pathlib import Path

from fedpipe.errors import run_stage
from fedpipe.tracking.delivery import follow
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.outbox import STORE


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser("follow").add_argument("journal", type=Path)
    journal = parser.parse_args().journal
    os.nice(10)  # the training goes first
    follow(journal, _loaded)
    os._exit(0)  # MLflow and its libraries take seconds to tidy up, and a stage waits for this process


def _loaded() -> MlflowStore:
    """The store; MLflow is imported now, while an evaluation measures, and not when it has something to log."""
    store = MlflowStore(os.environ[STORE])
    store.load()
    return store


if __name__ == "__main__":
    run_stage(_main)
