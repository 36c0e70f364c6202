"""A real scheduler and real workers, on loopback or on hosts of their own, and trainings on them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedpipe.cluster.members import Member
from fedpipe.cluster.parts import Part
from fedpipe.cluster.settings import ClusterSettings
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.networks.network import Weights
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from fedpipe.system.certificates import make_certificates
from tests import ROOT
from tests.fedpipe.cluster.hosts import Hosts
from tests.fedpipe.training import cohort_of, first_weights

START_SECONDS = 120


class Processes:
    """A scheduler and workers, each a process of its own, on the host of its name if there are ``hosts``."""

    def __init__(
        self, folder: Path, silent_seconds: float = 30.0, scheme: str = "tls://", hosts: Hosts | None = None
    ) -> None:
        self.folder, self.certificates, self._hosts = folder, folder / "certificates", hosts
        make_certificates(self.certificates)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"{scheme}{self._host('scheduler')}:{probe.getsockname()[1]}"
        self.all: dict[str, subprocess.Popen[bytes]] = {}
        self._silent = str(silent_seconds)
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self.start("scheduler", "scheduler", self.address, "--silent-seconds", self._silent)
        self.wait_for("scheduler", "scheduler: at")

    def start_worker(self, name: str, shards: Path, root: Path = ROOT, certificates: Path | None = None) -> None:
        requested = ["worker", self.address, "--shards", str(shards), "--host", self._host(name)]
        self.start(name, *requested, root=root, certificates=certificates)

    def start(self, name: str, *requested: str, root: Path = ROOT, certificates: Path | None = None) -> None:
        command = self._hosts.inside(name) if self._hosts else []
        command += [sys.executable, "-m", "operations.cluster"]
        command += ["--certificates", str(certificates or self.certificates)]
        place = self.folder / name
        place.mkdir(exist_ok=True)
        with (place / "log").open("wb") as log:
            self.all[name] = subprocess.Popen(
                [*command, *requested], cwd=place, env=os.environ | {"PYTHONPATH": str(root)}, stdout=log, stderr=log
            )

    def _host(self, name: str) -> str:
        return self._hosts.address(name) if self._hosts else "127.0.0.1"

    def log_of(self, name: str) -> str:
        return (self.folder / name / "log").read_text(errors="replace")

    def wait_for(self, name: str, words: str, times: int = 1) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.log_of(name).count(words) < times:
            assert self.all[name].poll() is None, self.log_of(name)
            assert time.monotonic() < deadline, self.log_of(name)
            time.sleep(0.05)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.all[name].send_signal(number)

    def tff_worker_of(self, name: str) -> psutil.Process:
        children = psutil.Process(self.all[name].pid).children()
        return next(child for child in children if "worker_binary" in child.cmdline()[0])

    def end(self, *names: str) -> None:
        """Ends the named ones, or all, and waits for them."""
        for name in names or self.all:
            with suppress(ProcessLookupError):
                self.all[name].kill()
            self.all[name].wait()


@contextmanager
def processes(folder: Path, workers: Sequence[str], shards: Path, **options: object) -> Iterator[Processes]:
    """A scheduler and ``workers``, who have joined."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Processes(folder, **options)  # type: ignore[arg-type]
    try:
        for name in workers:
            running.start_worker(name, shards)
        for name in workers:
            running.wait_for(name, "worker: at")
        yield running
    finally:
        running.end()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def noting_parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """A list that gets the worker of each part that is handed out, and whether the part has one sum per group."""
    actual: list[tuple[str, bool]] = []
    run = Member.run

    def noted(member: Member, part: Part, *others: Any) -> None:
        actual.append((member.address, part.one_by_one))
        run(member, part, *others)

    monkeypatch.setattr(Member, "run", noted)
    return actual


def settings_of(running: Processes, **changes: object) -> ClusterSettings:
    return ClusterSettings.model_validate({"address": running.address, "certificates": running.certificates, **changes})


def trained(
    worker: Worker,
    settings: Train,
    shards: Path,
    cohorts: Sequence[Sequence[int] | Cohort],
    cluster: ClusterSettings | None = None,
    kept_in: Path | None = None,
    before_round: Callable[[int], None] = lambda number: None,
) -> tuple[Weights, list[dict[str, float]]]:
    """Weights and measurements after one round per cohort, on this machine or on a cluster."""
    from fedpipe.cluster.cluster import opened
    from fedpipe.learning.wiring import Wiring
    from fedpipe.runtime.engine import Engine
    from fedpipe.runtime.kept_state import KeptFiles

    manifest = Manifest.read(shards)
    wiring = Wiring.of(settings, shards, kept_in, first=first_weights(settings))
    kept = None if wiring.kept is None else KeptFiles(wiring.kept, manifest.clients)
    measured = []
    with opened(cluster, settings, manifest.digest) as elsewhere:
        if elsewhere is not None:
            elsewhere.begin(kept.folder if kept else None, None)
        with Engine(wiring.process, worker, len(cohort_of(cohorts[0]).clients), elsewhere) as engine:
            for number, cohort in enumerate(cohorts, 1):
                before_round(number)
                requested = cohort_of(cohort)
                measured.append(engine.run_round(requested.packed(kept)))
                if kept:
                    kept.advance(requested.trained, number)
            return engine.weights(), measured
