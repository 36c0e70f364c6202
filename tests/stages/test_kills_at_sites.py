"""kill -9 of coordinator and sites at twenty random moments of a SCAFFOLD training over gRPC: the simulation's bits."""

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedpipe.datasets.shards import Shards, write_shards
from fedpipe.system.certificates import make_certificates
from tests.small_pipeline import edit, environment
from tests.stages.test_at_sites import AT_SITES, CLIENTS, POOLED, repro, site_process

pytestmark = pytest.mark.slow
LONG = {"  rounds: 4\n": "  rounds: 150\n", "  evaluate_every: 1": "  evaluate_every: 50"}
KILLS = 20
SEED = 18
WITHIN_A_ROUND, WHILE_STARTING = 1.0, 6.0  # seconds, at most, from the last progress or from a start to a kill
SECONDS = 1500.0


@pytest.fixture(scope="module")
def pooled(clone: Callable[[str], Path], raw: Path) -> Path:
    """The simulation."""
    folder = clone("pooled-kills")
    edit(folder, POOLED)
    edit(folder, LONG)
    done = repro(folder, raw)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def coordinator(clone: Callable[[str], Path], pooled: Path) -> Path:
    """A coordinator whose sites have the pooled samples."""
    folder = clone("coordinator-kills")
    edit(folder, AT_SITES)
    edit(folder, LONG)
    make_certificates(folder / "federation-certificates", ["coordinator", *CLIENTS])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (folder / "federation.yaml").write_text(f"address: 127.0.0.1:{probe.getsockname()[1]}\nwait_seconds: 300\n")
    shards = Shards.open(pooled / "data/clients")
    images, labels = shards.read(0, shards.samples)
    ends = np.cumsum(list(CLIENTS.values()))
    for (name, count), end in zip(CLIENTS.items(), ends, strict=True):
        own = [np.arange(*shards.offsets[client : client + 2]) for client in range(end - count, end)]
        place = folder.parent / "kills" / name
        (place / "clients").mkdir(parents=True)
        write_shards(place / "clients", "mnist", images, labels, own, 10)
        # Small sums stay there, so that the memory of answered messages is in use, too.
        (place / "policy.yaml").write_text("algorithms: [scaffold]\nleast_clients: 1\nleast_samples: 2\n")
    return folder


def test_kill_9_at_twenty_random_moments_leads_to_the_weights_of_the_simulation(
    pooled: Path, coordinator: Path, raw: Path
) -> None:
    log = coordinator / "log"
    end = time.monotonic() + SECONDS

    def start(name: str) -> "subprocess.Popen[bytes]":
        if name != "coordinator":
            return site_process(coordinator, coordinator.parent / "kills" / name, raw)
        with log.open("ab") as output:
            command = ["dvc", "repro"]
            return subprocess.Popen(command, cwd=coordinator, env=environment(raw), stdout=output, stderr=output)

    def rounds() -> int:
        return log.read_text().count("\nround ") if log.exists() else 0

    def kill(name: str) -> None:
        """The process, and those that it started: of the coordinator, the stage is another one."""
        killed = psutil.Process(processes[name].pid)
        for process in (killed, *killed.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        processes[name].wait(60)

    rng = np.random.default_rng(SEED)
    processes = {name: start(name) for name in (*CLIENTS, "coordinator")}
    try:
        for _ in range(KILLS):
            before, in_a_round = rounds(), rng.random() < 0.7
            while in_a_round and rounds() <= before:
                assert processes["coordinator"].poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.01)
            time.sleep(rng.uniform(0, WITHIN_A_ROUND if in_a_round else WHILE_STARTING))
            assert processes["coordinator"].poll() is None, f"over too early:\n{log.read_text()}"
            name = str(rng.choice([*CLIENTS, "coordinator"]))
            kill(name)
            processes[name] = start(name)
        assert processes["coordinator"].wait(SECONDS) == 0, log.read_text()
    finally:
        for started in processes.values():
            started.terminate()
            started.wait(60)
    text = log.read_text()
    assert text.count("resumes at round") >= 2 and text.count("started anew, joins again") >= 3, text
    for file in ("models/weights.safetensors", "metrics/rounds.csv"):
        assert (coordinator / file).read_bytes() == (pooled / file).read_bytes(), file
