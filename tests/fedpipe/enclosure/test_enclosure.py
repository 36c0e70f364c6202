"""Nobody else gets into the worker, and its graphs do not get out, whichever way it is shut in."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fedpipe.enclosure.enclosure import OPEN, SHUT, ways_allowed
from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests import RECIPE, ROOT
from tests.fedpipe.enclosure import forbidding
from tests.fedpipe.enclosure.sockets import (
    NOBODY,
    Listening,
    addresses,
    as_nobody,
    closed_folder,
    interfaces,
    listening,
    needs_root,
    network,
    try_as,
)
from tests.fedpipe.runtime.test_worker import gone

# Starts a worker, prints how, and does what the test asks for.
DRIVER = """
import signal, sys, time
from pathlib import Path
from fedpipe.runtime.worker import Worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
ways = sys.argv[2].split(",") if sys.argv[2] else None
with Worker(Path(sys.argv[1], "worker.log"), ways) as worker:
    worker.wait_until_ready()
    print(worker.way, worker.pid, worker.address, flush=True)
    {ending}
"""
# Trains behind each way and prints which it was, and the SHA-256 of the weights.
TRAINING = """
import hashlib, sys
from pathlib import Path
from fedpipe import params
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import run
folder, parameters = map(Path, sys.argv[1:3])
for way in sys.argv[3:]:
    with Worker(folder / "worker.log", [way]) as worker:
        worker.wait_until_ready()
        weights = run(worker, params.load(params.Train, parameters), folder / "shards", [[0, 1, 2], [2, 3, 1]]).weights
        print(worker.way, hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder that every user may write to; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="fedpipe-test-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


def driver(folder: Path, ways: str = "", ending: str = "pass") -> list[str]:
    return [sys.executable, "-c", DRIVER.format(ending=ending), str(folder), ways]


def outcome(command: list[str], **environment: str) -> tuple[int, str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "FEDPIPE_OPEN_WORKER"}
    done = subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=SHUT)
def shut(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path / "worker.log", [request.param]) as worker:
        worker.wait_until_ready()
        assert worker.way == request.param
        yield worker


@pytest.fixture
def unshut(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path / "unshut.log", [OPEN]) as worker:
        worker.wait_until_ready()
        yield worker


def port(worker: Worker) -> int:
    (option,) = [part for part in psutil.Process(worker.pid).cmdline() if part.startswith("--port=")]
    return int(option.partition("=")[2])


def family(worker: Worker) -> list[psutil.Process]:
    process = psutil.Process(worker.pid)
    return [process, *process.children(recursive=True)]


def test_no_address_answers(shut: Worker) -> None:
    targets = [(address, port(shut)) for address in addresses()]
    assert set(try_as(0, *targets)) == {"Connection refused"}
    if os.geteuid() == 0:
        assert set(try_as(NOBODY, *targets)) == {"Connection refused"}
    for process in family(shut):
        assert not [each for each in listening(process.pid) if each.network == network("self")]


def test_these_tests_would_see_an_open_port(unshut: Worker) -> None:
    assert set(try_as(0, *[(address, port(unshut)) for address in addresses()])) == {"open"}
    assert Listening("worker_binary", network("self"), "tcp6", port(unshut)) in listening(unshut.pid)


def test_the_network_of_its_own_has_only_a_loopback(tmp_path: Path) -> None:
    with Worker(tmp_path / "worker.log", ["namespace"]) as worker:
        worker.wait_until_ready()  # it says which way it takes before it takes it
        assert {network(process.pid) for process in family(worker)} - {network("self")} == {network(worker.pid)}
        assert interfaces(worker.pid) == {"lo"}


@needs_root
def test_another_user_cannot_use_our_socket(shut: Worker) -> None:
    path = shut.address.removeprefix("unix:")
    assert try_as(0, path) == ["open"]
    assert try_as(NOBODY, path) == ["Permission denied"]
    for process in family(shut):
        assert set(try_as(NOBODY, *[f"/proc/{process.pid}/fd/{n}" for n in range(12)])) == {"Permission denied"}


def fails(action: Callable[[], object]) -> None:
    with pytest.raises(PipelineError):
        action()


@pytest.mark.parametrize("way", [OPEN, *SHUT])
def test_a_graph_cannot_send_anything_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """TensorFlow reads ``gs://`` by HTTP, here through a proxy of ours; an unshut worker shows that it would."""
    import tensorflow as tf
    import tensorflow_federated as tff

    from fedpipe.runtime.tff_executor import Executor

    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        proxy.settimeout(5)
        with Worker(tmp_path / "worker.log", [way]) as worker:
            worker.wait_until_ready()
            executor = Executor(worker, 1)
            read = tff.tensorflow.computation(lambda: tf.io.read_file("gs://bucket/object"))
            graph = tff.federated_computation(lambda: tff.federated_eval(read, tff.SERVER))
            value = executor.call(tff.backends.native.desugar_and_transform_to_native(graph))
            waiting = threading.Thread(target=fails, args=(lambda: executor.fetch(value),))  # it tries for minutes
            waiting.start()
            try:
                with proxy.accept()[0] as connection:
                    reached = connection.recv(1000).decode()
            except TimeoutError:
                reached = ""
            assert waiting.is_alive()
        waiting.join(30)
        executor.close()
    assert reached.startswith("CONNECT storage.googleapis.com:443") if way == OPEN else reached == ""


@pytest.mark.parametrize("user", ["me", pytest.param("nobody", marks=[needs_root, pytest.mark.slow])])
def test_same_weights_each_way(folder: Path, make_shards: Callable[[list[int]], Path], user: str) -> None:
    subprocess.run(["cp", "-r", str(make_shards([30, 20, 45, 10])), str(folder / "shards")], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "shards")], check=True)
    command = [sys.executable, "-c", TRAINING, str(folder), str(RECIPE / "params.yaml"), *SHUT, OPEN]
    code, output, error = outcome(as_nobody(command) if user == "nobody" else command, HOME=str(folder))
    assert code == 0, error
    digests = dict(line.split() for line in output.splitlines())
    assert list(digests) == [*SHUT, OPEN] and len(set(digests.values())) == 1


@pytest.mark.parametrize("user", ["me", pytest.param("nobody", marks=needs_root)])
def test_the_way_is_found(folder: Path, user: str) -> None:
    def ways(*forbidden: int, **environment: str) -> tuple[int, str, str]:
        command = driver(folder)
        command = forbidding.without(forbidden, command) if forbidden else command
        code, output, error = outcome(as_nobody(command) if user == "nobody" else command, **environment)
        return code, output.partition(" ")[0], error.strip().splitlines()[-1] if error else ""

    assert ways() == (0, "namespace", "")
    assert ways(forbidding.UNSHARE) == (0, "filter", "")
    code, output, error = ways(forbidding.UNSHARE, forbidding.SECCOMP)
    assert (code, output) == (1, "") and error == (
        "fedpipe.errors.PipelineError: the TFF worker would listen on every network interface without a password, as "
        "this system forbids a network namespace (Operation not permitted) and a seccomp filter that answers bind "
        "(Operation not permitted): allow one of them (docs/security.md says how, in a container with `--security-opt "
        "seccomp=unconfined`), or accept the open port with FEDPIPE_OPEN_WORKER=yes in the environment"
    )
    code, output, error = ways(forbidding.UNSHARE, forbidding.SECCOMP, FEDPIPE_OPEN_WORKER="yes")
    assert (code, output) == (0, "open")
    assert error.startswith("train: FEDPIPE_OPEN_WORKER=yes: the TFF worker listens on port ")
    assert ways(FEDPIPE_OPEN_WORKER="yes") == (0, "namespace", "")  # allowed is not asked for


def test_another_value_of_the_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPIPE_OPEN_WORKER", "true")
    with pytest.raises(PipelineError, match="FEDPIPE_OPEN_WORKER is 'true' in the environment, but can be yes or no"):
        ways_allowed()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("way", SHUT)
@pytest.mark.parametrize("user", ["me", pytest.param("nobody", marks=needs_root)])
def test_a_killed_driver_leaves_nothing(folder: Path, way: str, user: str, number: signal.Signals) -> None:
    command = driver(folder, way, "time.sleep(60)")
    (folder / "temporary").mkdir()
    (folder / "temporary").chmod(0o777)
    process = subprocess.Popen(
        as_nobody(command) if user == "nobody" else command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[1])
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(family) == 2
        # Ctrl-C is sent to the group of the driver.
        assert not {os.getpgid(member) for member in family} & {os.getpgid(process.pid)}
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert all(gone(member) for member in family)
    assert not list((folder / "temporary").iterdir())


def test_a_forwarder_that_dies_is_named(shut: Worker) -> None:
    (forwarder,) = psutil.Process(shut.pid).children()
    shut.check_alive()
    forwarder.kill()
    assert gone(forwarder.pid)
    deadline = time.monotonic() + 10  # the worker's process reads it from the kernel a moment later
    with pytest.raises(PipelineError, match=r"the TFF worker's forwarder has ended; the log of both is .*worker.log"):
        while time.monotonic() < deadline:
            shut.check_alive()


def test_a_worker_that_cannot_be_executed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in SHUT:
        monkeypatch.setattr("fedpipe.runtime.worker._binary", lambda: tmp_path / "missing")
        with (
            pytest.raises(PipelineError, match="the TFF worker ended with exit code 1; its log is"),
            Worker(tmp_path / "worker.log", [way]) as worker,
        ):
            worker.wait_until_ready()


def test_a_place_that_is_closed_to_others_is_seen(folder: Path) -> None:
    (folder / "private/in").mkdir(parents=True)
    (folder / "open").mkdir()
    (folder / "open/link").symlink_to(folder / "private/in")
    (folder / "private").chmod(0o700)
    assert closed_folder(folder / "private/in/file") == folder / "private" == closed_folder(folder / "open/link/file")
    assert closed_folder(folder / "open/file") is None
