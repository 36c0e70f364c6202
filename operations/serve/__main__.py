"""``python -m operations.serve [--port 5001] [--dataset NAME]``: serve the champion over HTTP, on loopback."""

import argparse
import json
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

import layout
from fedpipe import params
from fedpipe.command_line import make_command
from fedpipe.errors import run_stage
from fedpipe.tracking.connection import configure
from fedpipe.tracking.registry import COMMIT_TAG
from operations.ports import LOOPBACK, SERVE_PORT, port_number, require_free
from operations.serve.scoring_app import LIMIT_VARIABLE, MODEL_VARIABLE, VERSION_VARIABLE

_MIB = 2**20
_LIMIT_MIB = 16  # of a request: some 3,000 images of MNIST


def serve(dataset: str, port: int, limit: int = _LIMIT_MIB * _MIB) -> None:
    """Replaces this process with an HTTP server for the present champion; serving a later champion takes a restart.

    The new process imports the model's own copy of our code, as it was logged. Of this checkout it runs scoring_app.py
    and nothing else.

    Args:
      dataset: Name of the data set whose champion to serve.
      port: TCP port on 127.0.0.1.
      limit: The largest request, in bytes.

    Raises:
      PipelineError: The port is taken, there is no champion, its weights are not those registered, or MLflow cannot be
        reached.
    """
    require_free(LOOPBACK, port)
    registry = layout.registry()
    champion = registry.require_champion(dataset)
    configure()
    # MLflow would serve whatever the store has, without a look at its SHA-256.
    model = str(registry.kept_model(champion))
    version = {
        "model": champion.name,
        "version": champion.number,
        "commit": champion.tags.get(COMMIT_TAG, "unknown"),
        "weights_sha256": champion.weights_sha256,
        "mlflow": installed("mlflow"),
    }
    environment = os.environ | {
        MODEL_VARIABLE: model,
        VERSION_VARIABLE: json.dumps(version),
        LIMIT_VARIABLE: str(limit),
        "MLFLOW_TRACKING_URI": layout.store(),
        "MLFLOW_REGISTRY_URI": layout.store(),
    }
    print(f"{champion}: POST images to http://{LOOPBACK}:{port}/invocations (Ctrl-C ends it)", flush=True)
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
    parser = argparse.ArgumentParser(description=__doc__, **make_command("serve"))
    parser.add_argument("--port", type=port_number, default=SERVE_PORT, help=f"port to listen on ({SERVE_PORT})")
    parser.add_argument("--dataset", help="the data set whose champion to serve; else that of params.yaml")
    parser.add_argument(
        "--limit", type=_mebibytes, default=_LIMIT_MIB, help=f"the largest request in MiB ({_LIMIT_MIB})"
    )
    options = parser.parse_args()
    serve(options.dataset or params.load(params.Download, layout.PARAMS).name, options.port, options.limit * _MIB)


def _mebibytes(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 4096:
        raise ValueError
    return number


if __name__ == "__main__":
    run_stage(main)
