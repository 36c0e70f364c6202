"""`dvc repro` at a coordinator whose sites sum securely: kill -9 of anybody, and the weights of the simulation.

The training is Ditto, whose clients keep files, with weights by examples.
"""

import shutil
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
from fedpipe.federation.pinned_roster import make_identity
from fedpipe.system.certificates import make_certificates
from tests.small_pipeline import edit, environment
from tests.stages.test_at_sites import AT_SITES, CLIENTS, POOLED, repro, site_process

pytestmark = pytest.mark.slow
SECURE = {
    "  algorithm: scaffold": "  algorithm: ditto",
    "  aggregator: mean": "  aggregator: secure_sum",
    "    most_examples: ": "    most_examples: 100 ",
    "  clients_per_round: 7": "  clients_per_round: all",
    "  rounds: 4\n": "  rounds: 12\n",
}
SECONDS = 600.0
# Whom to kill, and after how many steps of a site: in the middle of a round, at different steps.
KILLS = [
    ("clinic-b", 3),
    ("coordinator", 12),
    ("clinic-a", 19),
    ("clinic-c", 28),
    ("coordinator", 36),
    ("clinic-b", 44),
]


@pytest.fixture(scope="module")
def pooled(clone: Callable[[str], Path], raw: Path) -> Path:
    """The simulation."""
    folder = clone("pooled-secure")
    edit(folder, POOLED)
    edit(folder, SECURE)
    done = repro(folder, raw)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def coordinator(clone: Callable[[str], Path], pooled: Path, raw: Path) -> Path:
    """A coordinator whose sites have the pooled samples, identities and a roster."""
    folder = clone("coordinator-secure")
    edit(folder, AT_SITES)
    edit(folder, SECURE)
    make_certificates(folder / "federation-certificates", ["coordinator", *CLIENTS])
    keys = [f"  {name}: {make_identity(folder / 'federation-certificates', name)}\n" for name in CLIENTS]
    (folder / "roster.yaml").write_text(f"sites:\n{''.join(keys)}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (folder / "federation.yaml").write_text(f"address: 127.0.0.1:{probe.getsockname()[1]}\nwait_seconds: 120\n")
    shards = Shards.open(pooled / "data/clients")
    images, labels = shards.read(0, shards.samples)
    ends = np.cumsum(list(CLIENTS.values()))
    for (name, count), end in zip(CLIENTS.items(), ends, strict=True):
        own = [np.arange(*shards.offsets[client : client + 2]) for client in range(end - count, end)]
        site = folder.parent / "secure" / name
        (site / "clients").mkdir(parents=True)
        write_shards(site / "clients", "mnist", images, labels, own, 10)
        shutil.copy(folder / "roster.yaml", site)
        (site / "policy.yaml").write_text(
            "algorithms: [ditto]\naggregators: [secure_sum]\nleast_sites: 3\nleast_clients: 3\nleast_samples: 10\n"
        )
    return folder


def steps(site: Path) -> int:
    """How many steps of secure sums a site was asked for."""
    audit = site / "logs/audit.jsonl"
    lines = audit.read_text().splitlines() if audit.exists() else []
    return sum('"way": "in"' in line and '"kind": "secure"' in line for line in lines)


def test_kill_9_of_anybody_leads_to_the_weights_of_the_simulation(pooled: Path, coordinator: Path, raw: Path) -> None:
    sites = {name: coordinator.parent / "secure" / name for name in CLIENTS}
    log = coordinator / "log"

    def start(name: str) -> "subprocess.Popen[bytes]":
        if name != "coordinator":
            return site_process(coordinator, sites[name], raw)
        with log.open("ab") as output:
            command = ["dvc", "repro"]
            return subprocess.Popen(command, cwd=coordinator, env=environment(raw), stdout=output, stderr=output)

    processes = {name: start(name) for name in (*CLIENTS, "coordinator")}
    end = time.monotonic() + SECONDS
    try:
        for name, after in KILLS:
            while steps(sites["clinic-a"]) < after and processes["coordinator"].poll() is None:
                assert time.monotonic() < end, log.read_text()
            killed = psutil.Process(processes[name].pid)
            for process in (killed, *killed.children(recursive=True)):  # of the coordinator, the stage is another one
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            processes[name].wait(60)
            processes[name] = start(name)
        assert processes["coordinator"].wait(SECONDS) == 0, log.read_text()
    finally:
        for started in processes.values():
            started.terminate()
            started.wait(60)
    printed = log.read_text()
    assert printed.count("resumes at round") >= 1 or printed.count("3 sites take part") >= 3, printed
    for file in ("models/weights.safetensors", "metrics/rounds.csv"):
        assert (coordinator / file).read_bytes() == (pooled / file).read_bytes(), file
    assert steps(sites["clinic-a"]) >= 60 and not [*(coordinator / "logs/secure-sums").iterdir()]
    for site in sites.values():
        assert '"kind": "pass"' not in (site / "logs/audit.jsonl").read_text()
