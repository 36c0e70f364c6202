"""``python -m operations.sync``: logs the events to MLflow that a tracking server missed while it was down."""

import argparse

import layout
from fedpipe.command_line import make_command
from fedpipe.errors import run_stage
from fedpipe.tracking.delivery import sync
from fedpipe.tracking.mlflow_store import MlflowStore


def main() -> None:
    """Delivers every pending journal, and prints the results."""
    argparse.ArgumentParser(description=__doc__, **make_command("sync")).parse_args()
    outbox = layout.outbox()
    sync(outbox, lambda: MlflowStore(outbox.store))


if __name__ == "__main__":
    run_stage(main)
