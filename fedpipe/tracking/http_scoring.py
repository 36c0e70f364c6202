"""Serving the champion: MLflow's scoring server on loopback."""

import os
import socket
import sys
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.tracking.connection import configure
from fedpipe.tracking.outbox import store_uri
from fedpipe.tracking.registry import kept_model, require_champion

_HOST = "127.0.0.1"


def serve(dataset: str, port: int) -> None:
    """Becomes MLflow's scoring server with the present champion; a champion of later is served after a restart.

    It runs in another process's image, so that it imports the model's own copy of our code, as it was logged. MLflow
    starts one child, which the kernel ends with it (MLflow sets PR_SET_PDEATHSIG).

    Raises:
      PipelineError: There is no champion, its weights are not those registered, the port is taken, or MLflow cannot be
        reached.
    """
    version = require_champion(dataset)
    _require_free(port)
    model = str(kept_model(version))  # MLflow would serve whatever the store has, without a look at its SHA-256
    configure()
    # MLflow looks its server up on the PATH; this interpreter's need not be there.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": store_uri(), "MLFLOW_REGISTRY_URI": store_uri()}
    print(f"{version}: POST images to http://{_HOST}:{port}/invocations (Ctrl-C ends it)", flush=True)
    where = ["--host", _HOST, "--port", str(port), "--workers", "1", "--env-manager", "local"]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, *where], environment)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does; else one just ended blocks
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise PipelineError(
                f"port {port} of {_HOST} cannot be had ({error.strerror}): choose another one with --port"
            ) from None
