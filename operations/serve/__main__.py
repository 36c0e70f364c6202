"""``python -m operations.serve [--port 5001] [--dataset NAME]``: serve the champion over HTTP, on loopback."""

import argparse
import os
import sys
from pathlib import Path

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import run_stage
from fedpipe.tracking.connection import configure
from operations.ports import LOOPBACK, SERVE_PORT, port_number, require_free
from operations.serve.scoring_app import MODEL_VARIABLE


def serve(dataset: str, port: int) -> None:
    """Replaces this process with an HTTP server for the present champion; serving a later champion takes a restart.

    The new process imports the model's own copy of our code, as it was logged. Of this checkout it runs scoring_app.py
    and nothing else.

    Args:
      dataset: Name of the data set whose champion to serve.
      port: TCP port on 127.0.0.1.

    Raises:
      PipelineError: The port is taken, there is no champion, its weights are not those registered, or MLflow cannot be
        reached.
    """
    require_free(LOOPBACK, port)
    registry = layout.registry()
    version = registry.require_champion(dataset)
    configure()
    # MLflow would serve whatever the store has, without a look at its SHA-256.
    model = str(registry.kept_model(version))
    environment = os.environ | {
        MODEL_VARIABLE: model,
        "MLFLOW_TRACKING_URI": layout.store(),
        "MLFLOW_REGISTRY_URI": layout.store(),
    }
    print(f"{version}: POST images to http://{LOOPBACK}:{port}/invocations (Ctrl-C ends it)", flush=True)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(Path(__file__).parent),
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    os.execve(sys.executable, [*command, "--factory", "scoring_app:create"], environment)


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=port_number, default=SERVE_PORT, help=f"port to listen on ({SERVE_PORT})")
    parser.add_argument("--dataset", help="the data set whose champion to serve; else the one in data/raw")
    given = parser.parse_args()
    serve(given.dataset or RawDataset.read(layout.RAW).name, given.port)


if __name__ == "__main__":
    run_stage(main)
