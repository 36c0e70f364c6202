"""`dvc repro` at a coordinator with three real sites: the weights of a simulation, and no sample at the coordinator.

The training is SCAFFOLD, whose clients keep files, with seven of twelve clients a round.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.shards import Manifest, Shards, write_shards
from fedpipe.system.certificates import make_certificates
from tests.small_pipeline import edit, environment

pytestmark = pytest.mark.slow
CLIENTS = {"clinic-a": 3, "clinic-b": 5, "clinic-c": 4}
COMMON = {
    "  clients: 600": "  clients: 12",
    "  model: baseline_cnn": "  model: logistic_regression",
    "  algorithm: fed_avg": "  algorithm: scaffold",
    "  rounds: 10\n": "  rounds: 4\n",
    "  clients_per_round: all": "  clients_per_round: 7",
    "    seconds: 10 ": "    seconds: 0 ",
}
POOLED = COMMON | {
    "  scheme: contiguous": "  scheme: iid",
    "  leave_out: 0": "  leave_out: 59500",
    "  sites: #": "  sites: [3, 5, 4] #",
}
AT_SITES = COMMON | {
    "  scheme: contiguous": "  scheme: at_sites",
    "    sites: []": f"    sites: {json.dumps([*CLIENTS])}",
}


def repro(folder: Path, raw: Path, *stages: str) -> subprocess.CompletedProcess[str]:
    command = ["dvc", "repro", *stages]
    return subprocess.run(command, cwd=folder, env=environment(raw), capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def pooled(clone: Callable[[str], Path], raw: Path) -> Path:
    """The simulation."""
    folder = clone("pooled")
    edit(folder, POOLED)
    done = repro(folder, raw)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def coordinator(clone: Callable[[str], Path], pooled: Path) -> Path:
    """A coordinator whose sites have the pooled samples: ``SITE/`` in a folder beside it."""
    folder = clone("coordinator")
    edit(folder, AT_SITES)
    make_certificates(folder / "federation-certificates", ["coordinator", *CLIENTS])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (folder / "federation.yaml").write_text(f"address: 127.0.0.1:{probe.getsockname()[1]}\nwait_seconds: 60\n")
    shards = Shards.open(pooled / "data/clients")
    images, labels = shards.read(0, shards.samples)
    ends = np.cumsum(list(CLIENTS.values()))
    for (name, count), end in zip(CLIENTS.items(), ends, strict=True):
        own = [np.arange(*shards.offsets[client : client + 2]) for client in range(end - count, end)]
        site = folder.parent / name
        (site / "clients").mkdir(parents=True)
        write_shards(site / "clients", "mnist", images, labels, own, 10)
        counts = {"clinic-a": "exact", "clinic-b": "withheld", "clinic-c": "rounded"}[name]
        policy = f"algorithms: [scaffold]\nleast_clients: 1\nleast_samples: 1\ncounts: {counts}\n"
        (site / "policy.yaml").write_text(policy)
    return folder


def site_process(coordinator: Path, site: Path, raw: Path) -> "subprocess.Popen[bytes]":
    """Starts the site whose files are in a folder of its name."""
    address = (coordinator / "federation.yaml").read_text().split()[1]
    command = [sys.executable, "-m", "operations.federation", "site", address, site.name]
    for option, value in (
        ("shards", "clients"),
        ("policy", "policy.yaml"),
        ("logs", "logs"),
        ("personal", "own"),
        ("roster", "roster.yaml"),
    ):
        command += [f"--{option}", str(site / value)]
    with (site / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=coordinator, env=environment(raw), stdout=log, stderr=subprocess.STDOUT)


@contextmanager
def running(coordinator: Path, raw: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """The sites' processes."""
    started = {name: site_process(coordinator, coordinator.parent / name, raw) for name in CLIENTS}
    try:
        yield started
    finally:
        for process in started.values():
            process.terminate()
            process.wait(60)


def test_the_weights_are_those_of_the_simulation(pooled: Path, coordinator: Path, raw: Path) -> None:
    with running(coordinator, raw):
        done = repro(coordinator, raw)
    assert done.returncode == 0, done.stderr
    for file in ("models/weights.safetensors", "metrics/rounds.csv", "metrics/classes.csv"):
        assert (coordinator / file).read_bytes() == (pooled / file).read_bytes(), file
    here, simulated = (Manifest.read(folder / "data/clients") for folder in (coordinator, pooled))
    assert [site.name for site in here.sites or ()] == list(CLIENTS)
    plain = {simulated.digest, *(site.digest for site in simulated.sites or ())}
    assert not plain & {here.digest, *(site.digest for site in here.sites or ())}  # those of sites have keys
    images = Shards.open(pooled / "data/clients").read(0, 1)[0].tobytes()
    written = [
        file for name in ("data/clients", "logs", "models", "metrics") for file in (coordinator / name).rglob("*")
    ]
    assert not [file for file in written if file.is_file() and images in file.read_bytes()]
    assert sorted(path.name for path in (coordinator / "data/clients").iterdir()) == ["manifest.json", "shards.csv"]


def test_a_training_that_is_killed_goes_on_with_sites_that_were_started_anew(
    pooled: Path, coordinator: Path, raw: Path
) -> None:
    log = coordinator / "log"
    with running(coordinator, raw):
        with log.open("wb") as output:
            command = ["dvc", "repro", "--force", "--single-item", "train"]
            process = subprocess.Popen(command, cwd=coordinator, env=environment(raw), stdout=output, stderr=output)
            while "round 2/4" not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with running(coordinator, raw):
        done = repro(coordinator, raw, "--force", "--single-item", "train")
    assert done.returncode == 0 and "resumes at round" in done.stderr, done.stderr
    assert (coordinator / "models/weights.safetensors").read_bytes() == (
        pooled / "models/weights.safetensors"
    ).read_bytes()


def test_the_dropouts_of_a_training_that_goes_on_without_a_site_repeat_it(
    pooled: Path, coordinator: Path, raw: Path, clone: Callable[[str], Path]
) -> None:
    """A site is killed in a round and stays away; a simulation with its dropouts as a param has the weights."""
    settings = coordinator / "federation.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("wait_seconds: 60", "wait_seconds: 20\nquorum: 2"))
    audit, log = coordinator.parent / "clinic-c/logs/audit.jsonl", coordinator / "log"
    passes = audit.read_text().count('"kind": "pass"')
    try:
        with running(coordinator, raw) as sites, log.open("wb") as output:
            command = ["dvc", "repro", "--force", "--single-item", "train"]
            process = subprocess.Popen(command, cwd=coordinator, env=environment(raw), stdout=output, stderr=output)
            while audit.read_text().count('"kind": "pass"') == passes:
                assert process.poll() is None, log.read_text()
                time.sleep(0.01)
            sites["clinic-c"].kill()
            assert process.wait(600) == 0, log.read_text()
    finally:
        settings.write_text(before)
    assert "continues with clinic-a, clinic-b" in log.read_text()
    dropouts = json.loads((coordinator / "metrics/training.json").read_text())["dropouts"]
    assert dropouts and all(each["site"] == 3 for each in dropouts)
    again = clone("pooled-dropouts")
    edit(again, POOLED)
    edit(again, {"  dropouts: []": f"  dropouts: {json.dumps(dropouts)}"})
    done = repro(again, raw, "train")
    assert done.returncode == 0, done.stderr
    for file in ("models/weights.safetensors", "metrics/rounds.csv"):
        assert (coordinator / file).read_bytes() == (again / file).read_bytes(), file
        assert (coordinator / file).read_bytes() != (pooled / file).read_bytes(), file


def test_a_site_with_other_shards_and_a_missing_file_are_named(coordinator: Path, raw: Path) -> None:
    site = coordinator.parent / "clinic-b/clients"
    shutil.move(site, site.with_name("away"))
    shutil.copytree(coordinator.parent / "clinic-a/clients", site)
    try:
        with running(coordinator, raw):
            done = repro(coordinator, raw, "--force", "--single-item", "train")
    finally:
        shutil.rmtree(site)
        shutil.move(site.with_name("away"), site)
    assert done.returncode and "clinic-b: its shards are others than the coordinator knows" in done.stderr
    (coordinator / "federation.yaml").rename(coordinator / "away.yaml")
    try:
        done = repro(coordinator, raw, "--force", "--single-item", "train")
    finally:
        (coordinator / "away.yaml").rename(coordinator / "federation.yaml")
    assert done.returncode and "federation.yaml is missing: write where the coordinator listens" in done.stderr
