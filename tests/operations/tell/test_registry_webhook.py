"""MLflow's own webhooks: made by our command on a real server, which calls a real address when the champion moves."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fedpipe.tracking.mlflow_project import answers, free_port

SECRET = "a secret"
COMMAND = [sys.executable, "-m", "operations.tell.registry_webhook"]


def command(store: str, *arguments: str, address: str = "") -> subprocess.CompletedProcess[str]:
    ours = {
        "MLFLOW_TRACKING_URI": store,
        "FEDPIPE_REGISTRY_WEBHOOK": address,
        "FEDPIPE_REGISTRY_WEBHOOK_SECRET": SECRET,
    }
    return subprocess.run([*COMMAND, *arguments], env=os.environ | ours, capture_output=True, text=True, check=False)


def test_without_a_server_it_says_what_is_needed() -> None:
    done = command("sqlite:///mlflow.db", "create")
    assert done.returncode == 1 and done.stderr.startswith("error: MLFLOW_TRACKING_URI names no tracking server")


class Deployment(http.server.BaseHTTPRequestHandler):
    received: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.received.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def deployment() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Deployment)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """MLflow's server on SQLite, which may call loopback."""
    port = free_port()
    allowed = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    options = ["--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{empty_database}"]
    options += ["--artifacts-destination", str(tmp_path)]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *options], env=os.environ | allowed | quiet)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while not answers(f"{address}/health"):
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.3)
    yield address
    server.terminate()
    server.wait(30)


@pytest.mark.slow
def test_the_server_calls_the_address_when_the_champion_moves(store: str, deployment: str) -> None:
    assert "FEDPIPE_REGISTRY_WEBHOOK is not set" in command(store, "create").stderr
    assert "fedpipe: ACTIVE, model_version.created" in command(store, "create", address=deployment).stdout
    assert "took an example (200)" in command(store, "test").stderr
    Deployment.received.clear()

    from mlflow import MlflowClient

    client = MlflowClient(store, store)
    run = client.create_run(client.create_experiment("fedpipe-mnist"))
    client.create_registered_model("fedpipe-mnist")
    version = client.create_model_version("fedpipe-mnist", run.info.artifact_uri, run.info.run_id)
    client.set_registered_model_alias("fedpipe-mnist", "champion", version.version)
    deadline = time.monotonic() + 30
    while len(Deployment.received) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    messages = [json.loads(content) for _, content in Deployment.received]
    (moved,) = [each["data"] for each in messages if each["entity"] == "model_version_alias"]
    assert moved["name"] == "fedpipe-mnist" and moved["alias"] == "champion" and moved["version"] == "1"
    for headers, content in Deployment.received:
        signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.{content.decode()}"
        digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
        assert headers["X-MLflow-Signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert command(store, "delete").returncode == 0 and command(store, "list").stdout == ""
