"""The champion over HTTP: a tracking server, MLflow's scoring server, real test images."""

import copy
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.tracking import run_events
from fedpipe.tracking.registry import COMMIT_TAG
from operations.promote.__main__ import main as promote
from operations.serve.__main__ import serve
from tests.fedpipe.tracking.mlflow_project import Project, answers, eventually, free_port, running
from tests.registry_workspace import MODEL, Workspace


def test_the_champion_answers_with_the_digits(
    workspace: Workspace, empty_database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory
) -> None:
    """Through a tracking server all along: registered, promoted, fetched and served."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder)
    server_port, port = free_port(), free_port()
    uri = f"http://127.0.0.1:{server_port}"
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--port", str(server_port), "--workers", "1"]
    environment = Project(workspace.path, uri).environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with running(subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)):
        eventually(lambda: answers(f"{uri}/health"), 60)
        accuracy = workspace.register("strong")
        promote([])
        assert layout.registry().champion("mnist").number == 1
        images, labels = RawDataset.read(Path("data/raw")).read_test(Path("data/raw"))
        expected = MODEL.classifier(workspace.models["strong"])(images[:200]).argmax(axis=1)
        shutil.rmtree("data")  # which data set it is, params.yaml says

        server = Project(workspace.path, uri).start("-m", "operations.serve", "--port", str(port))
        with running(server):
            eventually(lambda: answers(f"http://127.0.0.1:{port}/ping"), 100)
            predictions = ask(port, images[:200])
            assert predictions.shape == (200, 10)
            assert (predictions.argmax(axis=1) == expected).all() and (expected == labels[:200]).mean() > 0.8
            assert accuracy > 0.8
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=30) as response:
                version = layout.registry().champion("mnist")
                description = json.load(response)
                assert (description["model"], description["version"]) == ("fedpipe-mnist", 1)
                assert (description["commit"], description["weights_sha256"]) == (
                    version.tags[COMMIT_TAG],
                    version.weights_sha256,
                )
                assert response.headers["X-Fedpipe-Commit"] == description["commit"]
            family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            listening = {c.laddr.ip for p in family for c in p.net_connections() if c.status == "LISTEN"}
            assert listening == {"127.0.0.1"}

            good = images[0].tolist()
            for bad, reason in bad_requests(good):
                status, answer = post(port, bad)
                assert status == 400 and reason in json.loads(answer)["message"], (reason, status, answer)
            assert post(port, json.dumps({"instances": [good]}).encode())[0] == 200

            with pytest.raises(PipelineError, match=f"cannot listen on 127.0.0.1:{port} .*--port"):
                serve("mnist", port)

            server.send_signal(signal.SIGTERM)
            assert not psutil.wait_procs(family, timeout=15)[1]
            assert (
                f"fedpipe-mnist version 1: POST images to http://127.0.0.1:{port}/invocations" in server.stdout.read()
            )


@pytest.mark.slow
def test_a_model_from_a_keras_file_answers(workspace: Workspace) -> None:
    """The `.keras` file itself is gone by then: the file of weights holds the layers."""
    workspace.take_keras("keras_file")
    workspace.register("first")
    promote([])
    Path("data/start.keras").unlink()
    images, _ = RawDataset.read(layout.RAW).read_test(layout.RAW)
    port = free_port()
    with running(Project(workspace.path).start("-m", "operations.serve", "--port", str(port))):
        eventually(lambda: answers(f"http://127.0.0.1:{port}/ping"), 100)
        actual = ask(port, images[:50])
    expected = workspace.network.predictor(workspace.models["first"])(images[:50])
    np.testing.assert_allclose(actual, expected, atol=1e-7)


def bad_requests(image: list) -> Iterator[tuple[bytes, str]]:
    """Bodies that have to be refused, made from a good image, and what the answer has to say."""
    for value, shown in ((0.5, "0.5"), (300, "300"), (-1, "-1"), (255.0, "255.0"), (True, "true"), ("7", '"7"')):
        changed = copy.deepcopy(image)
        changed[3][4][0] = value
        yield encode([image, changed]), f"image 1 has the pixel {shown}; pixels must be integers from 0 to 255"
    yield encode([image[:27]]), "image 0 is 27 x 28 x 1; the model takes images of 28 x 28 x 1"
    yield encode([[[pixel[0] for pixel in row] for row in image]]), "image 0 is 28 x 28; the model takes"
    yield encode([[*image[:27], image[27][:5]]]), "the model takes images of 28 x 28 x 1"
    yield encode(image), "image 0 is 28 x 1; the model takes"
    yield encode([]), "the request has no list of images"
    yield b'{"dataframe_split": {"data": [[0.5]]}}', "the request has no list of images"
    yield b"{", "the request is not JSON"


def encode(images: list) -> bytes:
    return json.dumps({"inputs": images}).encode()


def ask(port: int, images: np.ndarray) -> np.ndarray:
    """Probabilities [n, classes] of uint8 images [n, h, w, c], by HTTP."""
    status, answer = post(port, encode(images.tolist()))
    assert status == 200, answer
    return np.array(json.loads(answer)["predictions"])


def post(port: int, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer."""
    address = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def test_no_champion_is_a_sentence(workspace: Workspace) -> None:
    with pytest.raises(PipelineError, match=r"fedpipe-mnist has no champion in sqlite.*`make register promote`"):
        serve("mnist", free_port())


def test_a_port_of_another_process_is_a_sentence(workspace: Workspace) -> None:
    workspace.register("weak")
    promote([])
    with socket.socket() as taken, pytest.raises(PipelineError, match=r"cannot listen on 127\.0\.0\.1:"):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serve("mnist", taken.getsockname()[1])


def test_changed_weights_are_not_served(workspace: Workspace) -> None:
    """As `make score` refuses them; MLflow by itself serves whatever the store has."""
    workspace.register("weak")
    promote([])
    (stored,) = Path("mlartifacts").rglob("models/*/artifacts/**/weights.safetensors")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PipelineError, match=r"weights of fedpipe-mnist version 1 in .* were changed .*--rollback"):
        serve("mnist", free_port())
    version = layout.registry().champion("mnist")
    kept = Path("models/registry") / version.weights_sha256
    assert not kept.exists()

    stored.write_bytes(whole)
    assert layout.registry().kept_model(version) == kept and (kept / "MLmodel").is_file()
    (kept / "artifacts/weights.safetensors").write_bytes(b"others")
    fetched = layout.registry().kept_model(version) / "artifacts/weights.safetensors"
    assert run_events.sha256(fetched) == version.weights_sha256
