"""``python -m fedpipe.tracking``: deliver what is pending, open the UI, serve the champion, or run a server for a team.

python -m fedpipe.tracking sync               logs what a server that was down has missed
python -m fedpipe.tracking ui [--port 5000]   opens the MLflow UI on loopback
python -m fedpipe.tracking serve [--port 5001] [--dataset NAME]
                                             serves the champion over HTTP on loopback
python -m fedpipe.tracking server [--port 5000] [--folder server]
                                             runs a tracking server on PostgreSQL
python -m fedpipe.tracking follow JOURNAL     delivers a journal as it is written (the stages start this)
"""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import run_stage
from fedpipe.tracking import server, views
from fedpipe.tracking.delivery import follow, sync
from fedpipe.tracking.http_scoring import serve
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.outbox import shown_uri, store_uri

RAW = Path("data/raw")


def open_ui(port: int) -> None:
    """Becomes the MLflow UI on 127.0.0.1 with this project's store."""
    uri = store_uri()
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"the tracking server has a UI of its own: {shown_uri()}")
        return
    address, experiments = f"http://127.0.0.1:{port}", MlflowStore().experiments()
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # twenty processes for what this project does not use
    print(f"MLflow UI with {shown_uri()}: {address} (Ctrl-C ends it)", flush=True)
    for name, experiment_id in experiments.items():
        print(f"  {name}, params and metrics: {address}{views.runs_table(experiment_id)}", flush=True)
    arguments = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *arguments])


def port_number(text: str) -> int:
    """A TCP port. Raises ValueError, which argparse turns into a sentence."""
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync")
    commands.add_parser("ui").add_argument("--port", type=int, default=5000)
    server.add_arguments(commands.add_parser("server"))
    serving = commands.add_parser("serve")
    serving.add_argument("--port", type=port_number, default=5001)
    serving.add_argument("--dataset", help="the data set whose champion to serve; else the one in data/raw")
    commands.add_parser("follow").add_argument("journal", type=Path)
    given = parser.parse_args()
    if given.command == "ui":
        open_ui(given.port)
    elif given.command == "server":
        server.serve(given.host, given.port, given.folder, given.database)
    elif given.command == "serve":
        serve(given.dataset or RawDataset.read(RAW).name, given.port)
    elif given.command == "sync":
        sync(MlflowStore)
    else:
        os.nice(10)  # the training goes first
        follow(given.journal, MlflowStore)
        os._exit(0)  # MLflow and its libraries take seconds to tidy up, and a stage waits for this process


if __name__ == "__main__":
    run_stage(_main)
