"""docs/federation-example.md: its commands on four machines, and what it says that they prove.

Machines are network namespaces; a command in one sees no other machine's folder.
"""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Shards, write_shards
from fedpipe.dvc_lock import Lock
from fedpipe.system.launch import ending_with_us
from tests import ROOT
from tests.fedpipe.cluster.hosts import Hosts, hosts
from tests.operations.federation import wire_tap
from tests.small_pipeline import write_no_held_out_clients

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs/federation-example.md"
HOSPITALS = {"hospital-a": 5, "hospital-b": 7, "hospital-c": 4}
ROWS = {"hospital-a": "0 500", "hospital-b": "500 1200", "hospital-c": "1200 1600", "coordinator": "1600 1797"}
OF_HEADING = {
    "On every machine": [*ROWS],
    "Certificates, on the coordinator": ["coordinator"],
    "At each hospital": [*HOSPITALS],
    "On the coordinator": ["coordinator"],
}
NO_FILE_OF_CLIENTS = {"metrics/evaluation.json", "metrics/clients.csv", "plots/clients.png", "metrics/copies/evaluate"}
SECONDS = 600
SEES = "mount --bind {own} {view} && mount -t tmpfs none {all} && mkdir {own} && mount --bind {view} {own}"


@dataclass
class Block:
    """Some lines of the page: a part of params.yaml, another file, or commands."""

    heading: str
    before: str  # the sentence before it
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip() + "\n"

    @property
    def file(self) -> str | None:
        named = re.search(r"`(params|policy|federation)\.yaml`", self.before)
        return named and named[0].strip("`")


def blocks(page: str) -> list[Block]:
    made: list[Block] = []
    heading = before = ""
    inside = False
    for line in page.splitlines():
        if line.startswith("    ") or (inside and not line):
            if not inside:
                made.append(Block(heading, before))
            inside = True
            made[-1].lines.append(line.removeprefix("    "))
        else:
            inside = False
            heading = line.removeprefix("## ") if line.startswith("## ") else heading
            before = line or before
    return made


class Machines:
    """The machines, in folders of their own."""

    def __init__(self, folder: Path, network: Hosts, stack: ExitStack) -> None:
        self.all, self.view, self.network, self._stack = folder / "machines", folder / "view", network, stack
        self.view.mkdir()
        self.sites: dict[str, subprocess.Popen[bytes]] = {}
        self.outputs: dict[str, str] = {}  # what the last command of each make command printed

    def checkout(self, name: str) -> Path:
        return self.all / name / "fedpipe"

    def command(self, name: str, script: str) -> list[str]:
        mounts = SEES.format(own=self.all / name, view=self.view, all=self.all)
        inside = f"{mounts} && cd {self.checkout(name)} && exec bash -e -c {shlex.quote(script)}"
        return [*self.network.inside(name), "unshare", "--mount", "bash", "-c", inside]

    def run(self, name: str, script: str) -> str:
        done = subprocess.run(
            self.command(name, script), env=environment(), capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, f"{name}: {script}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout + done.stderr

    def start_site(self, name: str, make: str) -> None:
        """Starts what a make command would start, with a record of all answers."""
        line = self.run(name, f"{make.replace('make ', 'make -n -o env ', 1)}").strip().splitlines()[-1]
        line = line.replace("operations.federation", "tests.operations.federation.recording_site", 1)
        assert "recording_site site" in line
        with (self.all / name / "log").open("wb") as log:
            process = subprocess.Popen(
                ending_with_us(["/usr/bin/env", *self.command(name, f"exec {line}")]),
                env=environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.sites[name] = process
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.terminate)

    def tap(self, name: str) -> Path:
        """Records the wire of a machine."""
        file = self.all.parent / f"{name}.frames"
        command = [*self.network.inside(name), sys.executable, wire_tap.__file__, str(file)]
        process = subprocess.Popen(ending_with_us(["/usr/bin/env", *command]))
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        return file


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    person = {"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.com"}
    return kept | person | {"GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.com"}


def merge(file: Path, changes: dict[str, Any]) -> None:
    """Writes ``changes`` into params.yaml."""
    yaml = YAML()
    content = yaml.load(file.read_text(encoding="utf-8"))

    def into(section: Any, new: dict[str, Any]) -> None:
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(section.get(key), dict):
                into(section[key], value)
            else:
                section[key] = value

    into(content, changes)
    with file.open("w", encoding="utf-8") as output:
        yaml.dump(content, output)


def carry_out(machines: Machines, block: Block) -> None:
    """Does on the machines of its heading what a block says."""
    for name in OF_HEADING[block.heading]:
        text = block.text.replace("- 0 500 ", f"- {ROWS[name]} ")
        if name in HOSPITALS:
            text = text.replace("hospital-a", name).replace("clients: 5", f"clients: {HOSPITALS[name]}")
        text = text.replace("coordinator.example.org", machines.network.address("coordinator"))
        checkout = machines.checkout(name)
        if block.file == "params.yaml":
            samples = checkout.parent / "digits.npz"
            text = text.replace("SHA256", hashlib.sha256(samples.read_bytes()).hexdigest())
            merge(checkout / "params.yaml", YAML(typ="safe").load(text))
        elif block.file:
            (checkout / block.file).write_text(text)
        elif "make site" in text:
            machines.start_site(name, text.strip())
        elif text.startswith("git clone"):
            assert text.splitlines()[1:] == ["cd fedpipe", "make env"]  # the clone is made, and has an environment
        elif text.startswith("make"):
            for line in text.strip().splitlines():
                machines.outputs[line] = machines.run(name, re.sub(r"^make ", "make -o env ", line))
        else:
            machines.run(name, text)
    if block.heading.startswith("Certificates"):
        bring_certificates(machines)


def bring_certificates(machines: Machines) -> None:
    made = machines.checkout("coordinator") / "federation-certificates"
    for name in HOSPITALS:
        own = machines.checkout(name) / "federation-certificates"
        own.mkdir()
        shutil.copy(made / "ca.pem", own)
        for ending in ("pem", "key"):
            shutil.move(made / f"{name}.{ending}", own)


@pytest.fixture(scope="module")
def machines(clone: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machines, Path]]:
    """The machines when all commands have run, with the hospitals still connected; and what hospital-a's wire had."""
    folder = tmp_path_factory.mktemp("federation")
    with ExitStack() as stack:
        network = stack.enter_context(hosts([*ROWS]))
        if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            pytest.skip("the system forbids mount namespaces")
        made = Machines(folder, network, stack)
        for name in ROWS:
            made.checkout(name).parent.mkdir(parents=True)
            clone(name).rename(made.checkout(name))
            (made.checkout(name) / ".venv").symlink_to(sys.prefix)
        wire = made.tap("hospital-a")
        for block in blocks(PAGE.read_text(encoding="utf-8")):
            carry_out(made, block)
        yield made, wire


@pytest.fixture(scope="module")
def simulation(machines: tuple[Machines, Path], clone: Callable[[str], Path]) -> Path:
    """The training over the pooled samples, with the hospitals as `partition.sites`."""
    made, _ = machines
    pooled, coordinator = clone("pooled"), made.checkout("coordinator")
    shutil.copy(coordinator / "params.yaml", pooled)
    shutil.copytree(coordinator / "data/raw", pooled / "data/raw", dirs_exist_ok=True)
    merge(pooled / "params.yaml", {"partition": {"scheme": "contiguous", "sites": [*HOSPITALS.values()]}})
    names = ("data/clients", "data/client_tests", "data/validation")
    digest = None
    for name in names:
        (pooled / name).mkdir(parents=True, exist_ok=True)
        own = [] if name == names[2] else [Shards.open(made.checkout(site) / name) for site in HOSPITALS]
        read = [shards.read(0, shards.samples) for shards in own] or [
            (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.uint8))
        ]
        images, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
        sizes = np.concatenate([np.zeros(0, np.int64), *(np.diff(shards.offsets) for shards in own)])
        members = np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1]) if len(sizes) else []
        options = {"sites": [*HOSPITALS.values()], "held_out": "fraction"} if digest is None else {}
        of_clients = digest if members else None
        manifest = write_shards(
            pooled / name, "digits", images, labels, members, 10, clients_digest=of_clients, **options
        )
        digest = digest or manifest.digest
    file = pooled / "data/clients/manifest.json"
    text = file.read_text()
    for number, name in enumerate(HOSPITALS, 1):
        text = text.replace(f'"site-{number}"', f'"{name}"')
    file.write_text(text)
    tests, away = pooled / "data/client_tests", pooled / "data/away"
    tests.rename(away)
    shutil.copytree(pooled / "data/validation", tests)  # empty: sites measure held-out samples after the training only
    write_no_held_out_clients(pooled)
    for stage in ("train", "evaluate"):
        if stage == "evaluate":
            shutil.rmtree(tests)
            away.rename(tests)
        command = [sys.executable, "-E", "-m", f"stages.{stage}"]
        done = subprocess.run(command, cwd=pooled, env=environment(), capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
    return pooled


def images_of(machines: Machines, name: str) -> list[bytes]:
    """Each image of a machine, as pixels and as a network sees it."""
    images, _ = RawDataset.read(machines.checkout(name) / "data/raw").read_train(machines.checkout(name) / "data/raw")
    return [form.tobytes() for image in images for form in (image, image.astype(np.float32) / np.float32(255))]


def test_the_lock_is_that_of_the_simulation_over_the_pooled_samples(
    machines: tuple[Machines, Path], simulation: Path
) -> None:
    coordinator = machines[0].checkout("coordinator")
    lock = Lock.read(coordinator / "dvc.lock")
    outputs = lock.hashes("train", "outs") | lock.hashes("evaluate", "outs")
    assert outputs.keys() > NO_FILE_OF_CLIENTS and "models/weights.safetensors" in outputs
    for path, md5 in outputs.items():
        if path in NO_FILE_OF_CLIENTS:
            continue
        if md5.endswith(".dir"):
            for file in (coordinator / path).iterdir():
                assert file.read_bytes() == (simulation / path / file.name).read_bytes(), file
        else:
            assert hashlib.md5((simulation / path).read_bytes()).hexdigest() == md5, path
    here, simulated = (
        json.loads((folder / "metrics/evaluation.json").read_text())["test"] for folder in (coordinator, simulation)
    )
    clients = simulated.pop("clients")
    assert here == simulated and here["held_out"]["samples"] == clients["samples"] == 320
    assert list(here["sites"]) == list(HOSPITALS)


def test_no_image_leaves_a_hospital(machines: tuple[Machines, Path]) -> None:
    made, wire = machines
    site = made.checkout("hospital-a")
    answers, images = (site / "logs/answers").read_bytes(), images_of(made, "hospital-a")
    assert len(images) == 1000 and images[0] in (site / "data/raw/train-images-idx3-ubyte").read_bytes()
    assert len(answers) > 20 * 650 * 4  # twenty rounds of the model's weights, and more
    assert not [image for image in images if image in answers]
    lines = [json.loads(line) for line in (site / "logs/federation/audit.jsonl").read_text().splitlines()]
    counted = sum(line["bytes"] for line in lines if line["way"] == "out")
    sent = wire_tap.payload_from(wire, made.network.address("hospital-a"))
    assert counted == len(answers) and counted < sent < 1.2 * counted + 100_000
    coordinator = made.checkout("coordinator")
    files = [file for file in coordinator.rglob("*") if file.is_file() and ".venv" not in file.parts]
    whole = [file.read_bytes() for file in files]
    assert not [
        file for file, content in zip(files, whole, strict=True) if any(each in content for each in images[::50])
    ]
    with (coordinator / "plots/partition.csv").open() as table:
        assert {row["samples"] for row in csv.DictReader(table)} == {""}  # withheld


def test_hospitals_listen_nowhere_and_machines_see_their_own_files_only(machines: tuple[Machines, Path]) -> None:
    made, _ = machines
    for name in HOSPITALS:
        assert made.sites[name].poll() is None, (made.all / name / "log").read_text()
        assert made.run(name, f"ls {made.all}").split() == [name]
        sockets = made.run(name, "cat /proc/net/tcp /proc/net/tcp6")
        states = [line.split()[3] for line in sockets.splitlines() if ":" in line.split()[0]]
        assert "local_address" in sockets and "0A" not in states, sockets  # none listens


def test_the_second_model_is_champion_by_what_hospitals_measure(machines: tuple[Machines, Path]) -> None:
    decision = machines[0].outputs["make promote"]
    assert "takes the place of version 1: all rules hold" in decision
    assert re.search(r"holds  worst_site: the worst site's accuracy 0\.\d+ \(hospital-[abc]\) on held-out", decision)
    assert not {"worst_client", "note"} & set(decision.split())
    seen = machines[0].outputs['make federation ADDRESS=0.0.0.0:8443 SITES="hospital-a hospital-b hospital-c"']
    assert re.search(r"hospital-b +7 +withheld", seen)
