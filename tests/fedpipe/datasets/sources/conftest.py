"""Loopback mirrors, a tiny data set, and the real MNIST files where they are at hand."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from fedpipe.config import Download
from fedpipe.config.download import Sources
from fedpipe.datasets.sources.published import DataFile, Dataset

REPO = Path(__file__).parents[4]

# What a mirror says to a path: the body, or a function that does with the connection what it wants.
Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Mirror:
    url: str
    requested: list[str] = field(default_factory=list)


@dataclass
class Tiny:
    """A data set small enough to be mistreated a hundred times, and its right bytes."""

    dataset: Dataset
    content: dict[str, bytes]


@pytest.fixture(autouse=True)
def _loopback_without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("FEDPIPE_MNIST_SOURCE", raising=False)
    monkeypatch.delenv("FEDPIPE_FASHION_MNIST_SOURCE", raising=False)


@pytest.fixture(scope="session")
def mnist_source() -> Path:
    """The folder with the four real files."""
    named = os.environ.get("FEDPIPE_MNIST_SOURCE", "").removeprefix("file://")
    for folder in (Path(named) if named else None, REPO.parent / "shared/data/mnist"):
        if folder is not None and (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    pytest.skip("no folder with the MNIST files: FEDPIPE_MNIST_SOURCE names none, ../shared/data/mnist is not there")


@pytest.fixture
def mnist_gz(mnist_source: Path) -> dict[str, bytes]:
    """The four real files as a mirror has them."""
    return {path.name: path.read_bytes() for path in sorted(mnist_source.glob("*.gz"))}


@pytest.fixture
def tiny() -> Tiny:
    # Not compressible, and longer than one block of the copying loop.
    content = {name: np.random.default_rng(size).bytes(size) for name, size in [("big", 600_000), ("small", 99)]}
    content = {name: b"\0\0" + some for name, some in content.items()}
    files = tuple(DataFile(name, len(some), hashlib.sha256(some).hexdigest()) for name, some in content.items())
    return Tiny(Dataset("tiny", "Tiny", files), content)


@pytest.fixture
def limits() -> Download:
    return params_with(["unused"], 2.0, 0.5)


def params_with(addresses: list[str], connect_timeout: float = 1.0, read_timeout: float = 1.0) -> Download:
    """Section download, with the same sources for every data set."""
    sources = Sources(mnist=addresses, fashion_mnist=addresses)
    limits = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
    return Download(dataset="mnist", sources=sources, idx=None, **limits)


@pytest.fixture
def mirror() -> Iterator[Callable[[dict[str, Answer]], Mirror]]:
    """Starts HTTP servers on loopback; a path that is not in ``answers`` gets a 404."""
    servers = []

    def start(answers: dict[str, Answer]) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/mnist/")
                started.requested.append(name)
                answer = answers.get(name)
                if answer is None:
                    self.send_error(404)
                elif callable(answer):
                    answer(self)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up on us is what half of these tests are about."""

        server = Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        started = Mirror(f"http://127.0.0.1:{server.server_port}/mnist/")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return started

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Path]:
    """An empty project whose params.yaml names a data set and its sources; the test then runs inside it."""

    def make(sources: list[str], dataset: str = "mnist", idx: dict | None = None) -> Path:
        yaml = YAML(typ="safe")
        content = yaml.load((REPO / "params.yaml").read_text(encoding="utf-8"))
        content["download"] = {
            "dataset": dataset,
            "sources": {"mnist": sources, "fashion_mnist": sources},
            "idx": idx,
            "connect_timeout": 2,
            "read_timeout": 5,
        }
        with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make
