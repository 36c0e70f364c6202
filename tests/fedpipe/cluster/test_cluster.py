"""Chunks on a real Dask cluster over TLS: the bits of the local run, whoever computes, dies or hangs."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("distributed", reason="Dask is not installed: `make cluster-env` does that")

from fedpipe.cluster import parts
from fedpipe.cluster.cluster import Cluster, opened
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.runtime import engine as engine_module
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.kept_state import KeptFiles
from fedpipe.runtime.worker import Worker
from fedpipe.system.certificates import make_certificates
from tests import ROOT
from tests.fedpipe.cluster.hosts import hosts
from tests.fedpipe.cluster.running import Processes, noting_parts, processes, settings_of, trained, wait_until
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]
SETTINGS = train_settings(model="logistic_regression", local_epochs=1)
COHORTS = [list(range(24))] * 3
Result = tuple[list[Any], list[dict[str, float]]]


@pytest.fixture(scope="module")
def shards(make_shards: Make) -> Path:
    return make_shards([12] * 24)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six chunks per round."""
    monkeypatch.setattr(engine_module, "CHUNK", 1)


@pytest.fixture(scope="module")
def expected(worker: Worker, shards: Path) -> Result:
    """What this machine computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "CHUNK", 1)
        return trained(worker, SETTINGS, shards, COHORTS)


@pytest.fixture(scope="module")
def running(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A scheduler and two workers for the tests that leave them alone."""
    with processes(tmp_path_factory.mktemp("cluster"), ["one", "two"], shards) as started:
        yield started


def same(first: Result, other: Result) -> bool:
    return same_bits(first[0], other[0]) and first[1] == other[1]


def in_round_two(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Calls ``action`` once, when chunks of the second round are at the workers."""
    at_chunks(monkeypatch, {9: action})


def at_chunks(monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[], None]]) -> None:
    """Calls each of ``actions`` when as many chunks as its key says have been handed out, from the first round on."""
    start, calls = Cluster.start, []

    def counted(cluster: Cluster, message: Any, groups: Any) -> Any:
        started = start(cluster, message, groups)
        calls.append(started)
        actions.get(len(calls), lambda: None)()
        return started

    monkeypatch.setattr(Cluster, "start", counted)


def test_same_bits_as_on_this_machine(worker: Worker, shards: Path, running: Processes, expected: Result) -> None:
    assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)


def test_whole_chunks_have_the_same_bits(
    worker: Worker, shards: Path, running: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of two sizes, one of which is not that of the server's executor."""
    monkeypatch.setattr(engine_module, "CHUNK", 4)
    settings = train_settings(model="logistic_regression", server_optimizer={"name": "adam"})
    cohorts = [list(range(24)), [3, 5, 7], []]
    here = trained(worker, settings, shards, cohorts)
    assert same(trained(worker, settings, shards, cohorts, settings_of(running)), here)


def test_a_chunk_that_is_cut_has_the_same_bits(
    worker: Worker, shards: Path, running: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round is one chunk here, of which both workers get parts."""
    monkeypatch.setattr(engine_module, "CHUNK", 20)
    monkeypatch.setattr(parts, "_LEAST_CLIENTS", 4)
    here = trained(worker, SETTINGS, shards, COHORTS)
    ran = noting_parts(monkeypatch)
    assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), here)
    assert len({name for name, _ in ran}) == 2 and {one_by_one for _, one_by_one in ran} == {True, False}


@pytest.mark.slow
def test_one_two_and_four_workers(
    worker: Worker, shards: Path, expected: Result, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["one", "two", "three", "four"]
    with processes(tmp_path, names, shards) as running:
        for number in (4, 2, 1):
            for gone in names[number:]:
                running.end(gone)
            assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
            assert f"{number} worker" in capfd.readouterr().err


@pytest.mark.slow
def test_no_encryption_works_when_it_is_asked_for(
    worker: Worker, shards: Path, expected: Result, tmp_path: Path
) -> None:
    with processes(tmp_path, ["one"], shards, scheme="tcp+insecure://") as running:
        settings = settings_of(running, certificates=tmp_path / "none")
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings), expected)


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_no_encryption_is_not_had_by_accident(role: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "operations.cluster", role, "tcp://127.0.0.1:8786"]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "is not protected" in done.stderr and "tcp+insecure://127.0.0.1:8786 to accept that" in done.stderr


@pytest.mark.slow
def test_a_host_that_is_cut_off_costs_its_chunks(
    worker: Worker,
    shards: Path,
    expected: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Scheduler, driver and two workers have a network each; the cable of one worker is pulled in a round."""
    with (
        hosts(["scheduler", "one", "two"]) as network,
        processes(tmp_path, ["one", "two"], shards, silent_seconds=5.0, hosts=network) as running,
    ):
        in_round_two(monkeypatch, lambda: network.cut_off("two"))
        assert running.address.startswith("tls://198.18.")
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        output = capfd.readouterr().err
        assert "2 workers take part" in output and f"at tls://{network.address('two')}:" in output
        assert output.count("are computed again") == 1
        network.plug_in_again("two")
        running.wait_for("two", "worker: at", times=2)
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        assert "2 workers take part" in capfd.readouterr().err


def test_tff_worker_that_dies_costs_a_retry(
    worker: Worker,
    shards: Path,
    running: Processes,
    expected: Result,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    in_round_two(monkeypatch, lambda: running.tff_worker_of("one").send_signal(signal.SIGSTOP))
    result = trained(worker, SETTINGS, shards, COHORTS, settings_of(running, chunk_seconds=3.0))
    assert same(result, expected)
    assert (
        "it took more than 3 s (chunk_seconds in cluster.yaml); its chunk is computed again" in capfd.readouterr().err
    )
    for name in ("one", "two"):
        assert running.tff_worker_of(name).is_running()


@pytest.mark.slow
def test_updates_that_are_under_way_may_arrive_at_another_worker(
    worker: Worker, shards: Path, running: Processes, tmp_path: Path
) -> None:
    devices = {"devices": {"seconds_per_sample": 1.0, "spread": 1.0}}
    params = {"fed_buff": {"buffer_size": 12}, "availability": devices}
    settings = train_settings(model="logistic_regression", algorithm="fed_buff", **params)
    assert asynchrony_of(settings)
    events = Schedule(settings, asynchrony_of(settings), np.diff(Shards.open(shards).offsets))
    cohorts = [events.cohort(number) for number in range(1, 5)]
    assert max(cohort.counts["staleness_max"] for cohort in cohorts) > 0
    here = trained(worker, settings, shards, cohorts, kept_in=tmp_path / "here")
    remote = trained(worker, settings, shards, cohorts, settings_of(running, shared_folder=tmp_path), tmp_path / "kept")
    assert same(here, remote)


def test_what_clients_keep_needs_a_shared_folder(
    worker: Worker, shards: Path, running: Processes, tmp_path: Path
) -> None:
    settings = train_settings(
        model="logistic_regression", algorithm="scaffold", client_optimizer={"name": "sgd", "momentum": 0.0}
    )
    with pytest.raises(PipelineError, match=r"scaffold keeps a file per client, .* shared_folder in cluster\.yaml"):
        trained(worker, settings, shards, COHORTS, settings_of(running), tmp_path / "kept")
    (tmp_path / "shared").mkdir()
    with pytest.raises(PipelineError, match=r"kept, which is not in .*shared, the shared_folder"):
        cluster = settings_of(running, shared_folder=tmp_path / "shared")
        trained(worker, settings, shards, COHORTS, cluster, tmp_path / "kept")
    here = trained(worker, settings, shards, COHORTS, kept_in=tmp_path / "here")
    remote = trained(worker, settings, shards, COHORTS, settings_of(running, shared_folder=tmp_path), tmp_path / "kept")
    assert same(here, remote)
    kept = sorted((tmp_path / "kept").iterdir())
    assert [file.read_bytes() for file in kept] == [(tmp_path / "here" / file.name).read_bytes() for file in kept]
    assert len(kept) == 24


def test_other_shards_are_refused(
    worker: Worker, shards: Path, make_shards: Make, expected: Result, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_shards([11] * 24)
    with processes(tmp_path, ["other"], other) as running:
        with pytest.raises(PipelineError, match="no worker that may take part"):
            trained(worker, SETTINGS, shards, COHORTS, settings_of(running))
        running.start_worker("right", shards)
        running.wait_for("right", "worker: at")
        capfd.readouterr()
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        output = capfd.readouterr().err
        assert "is refused: shards (" in output and "1 worker takes part" in output


@pytest.mark.slow
def test_other_code_is_refused(worker: Worker, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One worker has other code. Another one had the same when it started, which it still runs."""
    for code in (tmp_path / "other", tmp_path / "changed"):
        for name in ("fedpipe", "operations"):
            shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("layout.py", "libraries.lock", "requirements.lock"):
            shutil.copy(ROOT / name, code)
    append(tmp_path / "other/fedpipe/learning/optimizers.py")
    append(tmp_path / "other/requirements.lock")
    with processes(tmp_path / "cluster", [], shards) as running:
        for name in ("other", "changed"):
            running.start_worker(name, shards, root=tmp_path / name)
            running.wait_for(name, "worker: at")
        append(tmp_path / "changed/fedpipe/figures.py")
        with pytest.raises(PipelineError, match="no worker that may take part"):
            trained(worker, SETTINGS, shards, COHORTS, settings_of(running))
    output = capfd.readouterr().err
    assert "is refused: code of training (" in output and "requirements.lock (" in output
    assert "is refused: its code has changed since it was started (start it again)" in output
    assert "waits for one" not in output


def append(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("# changed\n")


@pytest.mark.slow
def test_killed_and_stopped_workers_cost_their_chunks(
    worker: Worker,
    shards: Path,
    expected: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def hit() -> None:
        running.signal("one", signal.SIGKILL)
        running.signal("two", signal.SIGSTOP)

    in_round_two(monkeypatch, hit)
    with processes(tmp_path, ["one", "two", "three"], shards, silent_seconds=5.0) as running:
        tff_worker = running.tff_worker_of
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        assert capfd.readouterr().err.count(" is gone") == 2
        assert tff_worker("three").is_running()
        running.signal("two", signal.SIGCONT)  # it finds out that it was taken for lost, and comes back
        running.wait_for("two", "worker: at", times=2)
        running.signal("three", signal.SIGKILL)
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)


@pytest.mark.slow
def test_what_clients_keep_outlives_killed_and_stopped_workers(
    worker: Worker, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of three workers, one is killed and one hangs in round 2, with its TFF worker, in the middle of its clients.

    It wakes up in round 4, while others read files of round 2, and writes its own of that round again.
    """
    settings = train_settings(
        model="logistic_regression",
        algorithm="scaffold",
        batch_size=4,
        local_epochs=200,  # so that a client takes a tenth of a second
        client_optimizer={"name": "sgd", "momentum": 0.0},
    )
    cohorts = [range(12), range(6, 18), range(12, 24), range(0, 24, 2), range(4, 16)]  # of six chunks each
    monkeypatch.setattr(KeptFiles, "release", lambda kept, number: None)  # the files of all rounds stay
    here = run(worker, settings, shards, cohorts)
    idle, before = [0.0], dict[str, int]()

    def seconds() -> float:
        return sum(running.tff_worker_of("two").cpu_times()[:2])

    def note() -> None:
        idle[0] = seconds()

    def hit() -> None:
        wait_until(lambda: seconds() > idle[0] + 0.1)
        running.signal("one", signal.SIGKILL)
        stopped.extend([running.tff_worker_of("two"), psutil.Process(running.all["two"].pid)])
        for process in stopped:
            process.suspend()

    def wake() -> None:
        before.update(files_of_round_two())
        for process in stopped:
            process.resume()
        wait_until(lambda: files_of_round_two() != before)

    def files_of_round_two() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.2")}

    stopped: list[psutil.Process] = []
    with processes(tmp_path / "cluster", ["one", "two", "three"], shards, silent_seconds=5.0) as running:
        cluster = settings_of(running, shared_folder=tmp_path)
        at_chunks(monkeypatch, {7: note, 12: hit, 20: wake})
        with opened(cluster, settings, Manifest.read(shards).digest) as elsewhere:
            remote = run(worker, settings, shards, cohorts, elsewhere=elsewhere, kept_in=tmp_path)
        running.wait_for("two", "worker: at", times=2)
    assert capfd.readouterr().err.count(" is gone") == 2 and len(before) == 12
    assert same_bits(remote.weights, here.weights) and same_bits(remote.state, here.state)
    assert len(here.kept) == 60 and list(remote.kept) == list(here.kept)
    assert same_bits(list(remote.kept.values()), list(here.kept.values()))


@pytest.mark.slow
def test_waits_for_a_worker_when_all_are_gone(
    worker: Worker,
    shards: Path,
    expected: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def hit() -> None:
        running.signal("one", signal.SIGKILL)
        running.start_worker("two", shards)

    with monkeypatch.context() as patch, processes(tmp_path, ["one"], shards) as running:
        in_round_two(patch, hit)
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        output = capfd.readouterr().err
        assert "no worker is there in the cluster" in output and "training continues" in output
        patch.undo()
        patch.setattr(engine_module, "CHUNK", 1)
        in_round_two(patch, lambda: running.signal("two", signal.SIGKILL))
        with pytest.raises(WorkersLostError, match="had no worker for 2 s"):
            trained(worker, SETTINGS, shards, COHORTS, settings_of(running, wait_seconds=2.0))


def test_scheduler_that_dies_costs_a_retry(
    worker: Worker,
    shards: Path,
    expected: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def hit() -> None:
        running.signal("scheduler", signal.SIGKILL)
        running.all["scheduler"].wait()
        threading.Timer(2, running.start_scheduler).start()

    in_round_two(monkeypatch, hit)
    with processes(tmp_path, ["one"], shards) as running:
        assert same(trained(worker, SETTINGS, shards, COHORTS, settings_of(running)), expected)
        output = capfd.readouterr().err
        assert f"no scheduler answers at {running.address}; waits" in output and "training continues" in output


def test_only_certificates_of_the_ca_open_the_doors(shards: Path, running: Processes, tmp_path: Path) -> None:
    make_certificates(tmp_path / "other")
    with pytest.raises(PipelineError, match="does not let us in"):
        Cluster(settings_of(running, certificates=tmp_path / "other"), SETTINGS, "")
    running.start_worker("stranger", shards, certificates=tmp_path / "other")
    running.wait_for("stranger", "does not let it in")
    running.all["stranger"].kill()
    with pytest.raises(PipelineError, match=r"ca\.pem is missing"):
        Cluster(settings_of(running, certificates=tmp_path), SETTINGS, "")
    for name in ("scheduler", "one"):
        for listening in listeners(running, name):
            assert listening.ip == "127.0.0.1"
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert not answers(listening, context)


def listeners(running: Processes, name: str) -> list[Any]:
    process = psutil.Process(running.all[name].pid)
    everybody = [process, *process.children(recursive=True)]
    return [c.laddr for process in everybody for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]


def answers(address: Any, context: ssl.SSLContext) -> bool:
    """Whether a server talks to somebody without a certificate; HTTP pages there are none."""
    import socket

    with socket.create_connection((address.ip, address.port), 5) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                wrapped.settimeout(5)
                return bool(wrapped.recv(1))
        except OSError:
            pass
    with socket.create_connection((address.ip, address.port), 5) as plain:
        plain.settimeout(5)
        plain.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        try:
            return b"200" in plain.recv(20)
        except OSError:
            return False
