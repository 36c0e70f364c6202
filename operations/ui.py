"""``python -m operations.ui [--port 5002]``: open the MLflow UI with this project's runs, on loopback."""

import argparse
import os
import sys
from urllib.parse import urlsplit

import layout
from fedpipe.command_line import make_command
from fedpipe.errors import run_stage
from fedpipe.tracking import views
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.outbox import without_password
from operations.ports import LOOPBACK, UI_PORT, port_number, require_free


def main() -> None:
    """Replaces this process with the MLflow UI."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("ui"))
    parser.add_argument("--port", type=port_number, default=UI_PORT, help=f"port to listen on ({UI_PORT})")
    port = parser.parse_args().port
    uri = layout.store()
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"the tracking server has a UI of its own: {without_password(uri)}")
        return
    require_free(LOOPBACK, port)
    with layout.registry().readable_errors():
        experiments = MlflowStore(uri).experiments()
    address = f"http://{LOOPBACK}:{port}"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # twenty processes that this project does not use
    print(f"MLflow UI with {without_password(uri)}: {address} (Ctrl-C ends it)", flush=True)
    for name, experiment_id in experiments.items():
        print(f"  {name}, params and metrics: {address}{views.runs_table(experiment_id)}", flush=True)
    arguments = ["--backend-store-uri", uri, "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *arguments])


if __name__ == "__main__":
    run_stage(main)
