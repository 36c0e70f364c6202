"""The team's server for real: PostgreSQL, MLflow over it, trainings as processes, and every way to end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from fedpipe.errors import PipelineError
from operations.server import postgres
from operations.server.postgres import find_installed, running_cluster
from tests import RECIPE, ROOT
from tests.fedpipe.tracking.mlflow_project import Project, answers, free_port

needs_postgres = pytest.mark.skipif(
    not find_installed(), reason="no PostgreSQL here: install the system's package (apt-get install postgresql)"
)


class Server:
    """``python -m operations.server``, in a folder that lasts from one start to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        self.process = serve("--port", str(self.port), "--folder", str(self.folder), *options)
        for line in self.process.stdout:
            if "export MLFLOW_TRACKING_URI" in line:
                break
        else:
            pytest.fail(f"it did not start: {self.process.communicate(timeout=20)[1]}")
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        """Sends the signal, and checks that nothing is left; returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        _, alive = psutil.wait_procs(self.family, timeout=30)
        assert not alive
        assert not answers(f"{self.uri}/health")
        return code


def serve(*options: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "operations.server", *options],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(*options: str) -> str:
    """What the command says when it refuses: one sentence."""
    server = serve(*options)
    _, error = server.communicate(timeout=60)
    assert server.returncode == 1 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL can enter when root runs the tests; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="fedpipe-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(open_folder: Path) -> Iterator[Server]:
    server = Server(open_folder / "server")
    server.start()
    yield server
    if server.process.poll() is None:
        server.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def trained(server: Server, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """The server after two real trainings at once, each in a project of its own, on the same four clients."""
    projects = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("project")
        (folder / "data").mkdir()
        (folder / "data/raw").symlink_to(raw)
        params = YAML().load(RECIPE / "params.yaml")
        params["partition"] |= {"clients": 4, "leave_out": 59920}
        params["train"] |= {"rounds": 2, "seed": seed}
        YAML().dump(params, folder / "params.yaml")
        projects.append(Project(folder, server.uri))
        projects[-1].environment["FEDPIPE_TRACKING_WAIT"] = "200"  # a busy machine is not what this is about
    code, _, error = projects[0].run("-m", "stages.partition")
    assert code == 0, error
    for name in ("data/clients", "data/client_tests", "data/raw"):
        if not (projects[1].path / name).exists():
            (projects[1].path / name).symlink_to((projects[0].path / name).resolve())
    trainings = [project.start("-m", "stages.train") for project in projects]
    for training in trainings:
        _, error = training.communicate(timeout=400)
        assert training.returncode == 0, error
        assert "MLflow: run unknown partition, " in error and f" in {server.uri}" in error, error
    return projects


def check_runs(project: Project) -> None:
    """Both runs are there, whole: params, a metric a round, pictures, and a model that can be fetched."""
    runs = {run.data.params["train.seed"]: run for run in project.runs()}
    assert set(runs) == {"1", "2"}
    for run in runs.values():
        assert run.info.status == "FINISHED" and run.data.params["train.rounds"] == "2"
        assert [step for step, _ in project.history(run, "train/accuracy")] == [1, 2]
        assert "pictures/training.png" in project.artifacts(run, "pictures")
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        (output,) = run.outputs.model_outputs
        assert project.client.get_logged_model(output.model_id).status == "READY"


@pytest.mark.slow
@needs_postgres
def test_two_trainings_at_once_are_both_there(server: Server, trained: list[Project], tmp_path: Path):
    check_runs(trained[0])
    run = trained[0].runs()[0]
    fetched = trained[0].client.download_artifacts(run.info.run_id, "tables/rounds.csv", str(tmp_path))
    content = Path(fetched).read_bytes()
    assert content in [(project.path / "metrics/rounds.csv").read_bytes() for project in trained]
    assert not any((project.path / "mlruns").exists() or project.pending() for project in trained)
    kept = list((server.folder / "artifacts").rglob("rounds.csv"))  # the server's own store, not the client's
    assert len(kept) == 2 and content in [path.read_bytes() for path in kept]


@needs_postgres
def test_only_loopback_and_a_closed_socket(server: Server):
    family = [process for process in server.family if process.is_running()]
    listening = {c.laddr for process in family for c in process.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {("127.0.0.1", server.port)}
    (postmaster,) = [process for process in family if process.name() == "postgres" and "-D" in process.cmdline()]
    assert postmaster.username() != "root"
    (sockets,) = {
        Path(part.partition("=")[2]) for part in postmaster.cmdline() if part.startswith("unix_socket_directories=")
    }
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert (server.folder / "postgres").stat().st_mode & 0o777 == 0o700
    for process in family:
        assert not any("password" in part.lower() for part in process.cmdline())


@needs_postgres
def test_a_second_server_is_refused(server: Server):
    assert "another server runs in" in refusal("--folder", str(server.folder), "--port", str(free_port()))


@pytest.mark.slow
@needs_postgres
def test_killed_it_leaves_nothing_and_starts_again(server: Server, tmp_path: Path):
    client = Project(tmp_path, server.uri).client
    run = client.create_run("0", run_name="before the kill").info.run_id
    postmaster = next(process for process in server.family if "-D" in process.cmdline())
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    # A power cut leaves the pid file, and by the next start its number may be another process's.
    pid_file = server.folder / "postgres/postmaster.pid"
    assert not pid_file.exists()
    pid_file.write_text(f"{os.getpid()}\n{server.folder}/postgres\n{int(time.time())}\n")
    if os.geteuid() == 0:
        shutil.chown(pid_file, postgres._server_user())
    server.start()
    assert postmaster.pid not in [process.pid for process in server.family]
    assert client.get_run(run).info.run_name == "before the kill"
    assert server.end(signal.SIGTERM) == 0


@pytest.mark.slow
@needs_postgres
def test_an_existing_database_serves_the_same_runs(server: Server, trained: list[Project]):
    if server.process.poll() is None:
        server.end(signal.SIGTERM)
    with running_cluster(server.folder / "postgres", server.folder / "postgres.log") as address:
        server.start("--database", address.replace("+psycopg2", ""))
        assert not any(process.name() == "postgres" and "-D" in process.cmdline() for process in server.family)
        check_runs(trained[0])
        assert server.end(signal.SIGINT) == 130


@needs_postgres
def test_a_closed_way_is_named(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root's PostgreSQL runs as another user")
    tmp_path.chmod(0o700)
    error = refusal("--folder", str(tmp_path / "server"), "--port", str(free_port()))
    assert "who cannot enter" in error and "--folder" in error


def test_a_taken_port_is_named(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refusal("--folder", str(tmp_path), "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}" in error and "Address already in use" in error and "--port" in error


def test_a_folder_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refusal("--folder", str(tmp_path / "file/server"))


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("mysql://me@host/runs", "should be postgresql://user@host/name, not 'mysql://me@host/runs'"),
        ("postgresql://me:secret@127.0.0.1:1/runs", "postgresql://me@127.0.0.1:1/runs cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, database: str, message: str):
    error = refusal("--folder", str(tmp_path), "--port", str(free_port()), "--database", database)
    assert message in error and "secret" not in error


def test_no_postgres_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres, "find_installed", dict)
    with (
        pytest.raises(PipelineError, match="apt-get install postgresql"),
        running_cluster(tmp_path / "a", tmp_path / "b"),
    ):
        pass


@pytest.mark.parametrize(
    ("version", "message"), [("9\n", "was made by PostgreSQL 9, but this machine has 15 in"), ("", "no")]
)
def test_another_version_of_the_cluster_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, message: str
):
    monkeypatch.setattr(postgres, "find_installed", lambda: {15: Path("/usr/bin")})
    (tmp_path / "PG_VERSION").write_text(version)
    with pytest.raises(PipelineError, match=message), running_cluster(tmp_path, tmp_path / "log"):
        pass
