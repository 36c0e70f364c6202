"""While ``dvc repro`` runs, none of its processes has a TCP or UDP port that anybody could reach."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from fedpipe.enclosure.linux import call
from tests.fedpipe.enclosure import forbidding
from tests.fedpipe.enclosure.sockets import NOBODY, Listening, addresses, interfaces, listening, network, try_as
from tests.stages.test_pipeline import SMALL, edit, environment

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Seen:
    """What was seen of all processes of a run."""

    processes: set[str] = field(default_factory=set)
    reachable: set[Listening] = field(default_factory=set)
    shut_in: set[Listening] = field(default_factory=set)
    interfaces: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)


def watch(command: list[str], folder: Path, variables: dict[str, str]) -> Seen:
    """Runs ``command`` and looks at its processes again and again, also at those whose parent has ended."""
    seen, here, me = Seen(), network("self"), psutil.Process()
    others = set(me.children(recursive=True))
    call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        with (folder / "said").open("w") as output:
            run = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
            while run.poll() is None:
                for process in set(me.children(recursive=True)) - others:
                    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                        look(process.pid, here, seen)
                time.sleep(0.1)
        psutil.wait_procs(set(me.children(recursive=True)) - others, timeout=30)
    finally:
        call("prctl", PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert run.returncode == 0, (folder / "said").read_text()[-5000:]
    return seen


def look(pid: int, here: str, seen: Seen) -> None:
    actual = listening(pid)
    seen.processes.add(Path(f"/proc/{pid}/comm").read_text().strip())
    seen.reachable |= {each for each in actual if each.network == here}
    inside = {each for each in actual if each.network != here}
    if inside and not seen.answers:
        targets = [(address, each.port) for address in addresses() for each in inside]
        seen.answers |= set(try_as(0, *targets))
        if os.geteuid() == 0:
            seen.answers |= set(try_as(NOBODY, *targets))
        seen.interfaces |= interfaces(pid)
    seen.shut_in |= inside


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path]) -> Path:
    folder = clone("watched")
    edit(folder, SMALL)
    return folder


@pytest.mark.slow
def test_a_run_opens_no_port(project: Path, raw: Path) -> None:
    seen = watch(["dvc", "repro"], project, environment(raw))
    assert {"dvc", "python", "worker_binary"} <= seen.processes
    assert seen.reachable == set()
    # The worker does listen, where only its forwarder is.
    assert {each.process for each in seen.shut_in} == {"worker_binary"}
    assert seen.interfaces == {"lo"} and seen.answers == {"Connection refused"}


@pytest.mark.slow
def test_a_run_opens_no_port_without_namespaces(project: Path, raw: Path) -> None:
    command = forbidding.without([forbidding.UNSHARE], ["dvc", "repro", "--force", "--single-item", "train"])
    before = (project / "dvc.lock").read_bytes()
    seen = watch(command, project, environment(raw))
    assert {"python", "worker_binary"} <= seen.processes
    assert seen.reachable == seen.shut_in == set()
    assert (project / "dvc.lock").read_bytes() == before
