"""NVIDIA FLARE itself: what its defaults would allow, and what happens when one of its processes is killed."""

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fedpipe.errors import WorkersLostError
from fedpipe.links.flare.job import write_job
from fedpipe.links.flare_link import FlareLink
from fedpipe.links.flare_site import stay_at_kit
from operations.federation.local_flare import LocalFlare, stop
from tests import ROOT
from tests.fedpipe.links.sites import thread_of

pytestmark = pytest.mark.slow
NAMES = ["site-1", "site-2"]
SECONDS = 240.0


@pytest.fixture(scope="module")
def flare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlare]:
    pytest.importorskip("nvflare", reason="needs `make flare-env`")
    with LocalFlare(tmp_path_factory.mktemp("flare"), NAMES) as running:
        yield running


@pytest.fixture
def answering(flare: LocalFlare) -> Iterator[None]:
    """The sites' own processes, which echo."""
    with thread_of(stay_at_kit, flare.sites["site-1"], bytes), thread_of(stay_at_kit, flare.sites["site-2"], bytes):
        yield


def link_to(flare: LocalFlare) -> FlareLink:
    return FlareLink(flare.server, flare.admin, NAMES, wait_seconds=SECONDS, answer_seconds=SECONDS)


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def process(kit: Path) -> psutil.Process:
    until(lambda: (kit / "pid.fl").exists())
    return psutil.Process(int((kit / "pid.fl").read_text()))


def jobs_at(kit: Path) -> list[psutil.Process]:
    """The job processes of a kit; they would stay when their parent is killed."""
    return [each for each in process(kit).children(recursive=True) if "_process" in " ".join(each.cmdline())]


def listening(kit: Path) -> list[tuple[str, int]]:
    return [tuple(each.laddr) for each in process(kit).net_connections() if each.status == psutil.CONN_LISTEN]


def run_job(flare: LocalFlare, job: Path) -> str:
    """Submits a job as it is; returns how it ended."""
    command = [sys.executable, "-m", "fedpipe.links.flare.session", str(flare.admin), str(job), str(SECONDS), *NAMES]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as session:
        assert session.stdout is not None and session.stdin is not None
        for line in session.stdout:
            report = json.loads(line)
            if "over" in report or "error" in report:
                session.stdin.close()
                return str(report)
    raise AssertionError("the session ended without a word")


def is_let_in(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """Whether a TLS connection stays open."""
    try:
        with socket.create_connection(address, 10) as plain, context.wrap_socket(plain) as encrypted:
            encrypted.settimeout(2.0)
            try:
                return encrypted.recv(1) != b""
            except TimeoutError:
                return True
    except (ssl.SSLError, ConnectionError):
        return False


def test_a_port_inside_of_a_site_speaks_to_certificates_only(flare: LocalFlare) -> None:
    kit = flare.sites["site-1"]
    until(lambda: bool(listening(kit)))
    (address,) = listening(kit)
    assert address[0] == "127.0.0.1"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert not is_let_in(address, context)
    context.load_cert_chain(kit / "startup/client.crt", kit / "startup/client.key")
    assert is_let_in(address, context)


def test_a_question_goes_there_and_back_and_nothing_is_left_in_a_shared_folder(
    flare: LocalFlare, answering: None
) -> None:
    with link_to(flare) as link:
        assert dict(link.ask(dict.fromkeys(NAMES, b"sums"))) == dict.fromkeys(NAMES, b"sums")
        for kit in [flare.server, *flare.sites.values()]:
            (job,) = jobs_at(kit)
            assert "--parent_conn_sec mtls" in " ".join(job.cmdline())
            files = {file.path for file in (*job.open_files(), *process(kit).open_files())}
            assert not [file for file in files if "nvflare" in file and not file.startswith(str(kit))]
    until(lambda: not any(jobs_at(kit) for kit in flare.sites.values()))
    assert not list((flare.server / "jobs").glob("*")) and not list((flare.server / "snapshots").rglob("*.*"))


@pytest.mark.parametrize("trick", ["code of its own", "another class"])
def test_a_job_runs_no_code_but_ours(flare: LocalFlare, tmp_path: Path, trick: str) -> None:
    job, mark = tmp_path / "job", tmp_path / "mark"
    write_job(job, NAMES, "run")
    if trick == "code of its own":
        (job / "app/custom").mkdir()
        (job / "app/custom/own.py").write_text(
            "from nvflare.apis.executor import Executor\n"
            f"open({str(mark)!r}, 'w').close()\n"
            "class Own(Executor):\n    def execute(self, *_): return None\n"
        )
        path = "own.Own"
    else:
        path = "nvflare.app_common.np.np_trainer.NPTrainer"
    config = job / "app/config/config_fed_client.json"
    config.write_text(config.read_text().replace("fedpipe.links.flare.site_executor.SiteExecutor", path))
    ended = run_job(flare, job)
    assert "COMPLETED" not in ended and not mark.exists()
    if trick == "another class":
        logs = [file.read_text() for kit in flare.sites.values() for file in kit.glob("*/log.txt")]
        assert any(path in line and "is not in allow_list" in line for log in logs for line in log.splitlines())


def test_a_site_whose_job_process_is_killed_is_named_and_the_next_job_has_it_again(
    flare: LocalFlare, answering: None
) -> None:
    with link_to(flare) as link:
        assert dict(link.ask(dict.fromkeys(NAMES, b"one")))
        (job,) = jobs_at(flare.sites["site-2"])
        job.kill()
        begin = time.monotonic()
        with pytest.raises(WorkersLostError, match=r"site-2 is lost|job has ended"):
            list(link.ask(dict.fromkeys(NAMES, b"two")))
        assert time.monotonic() - begin < SECONDS / 2
    with link_to(flare) as link:
        assert dict(link.ask(dict.fromkeys(NAMES, b"three"))) == dict.fromkeys(NAMES, b"three")


def test_job_processes_of_sites_end_when_the_server_is_killed(flare: LocalFlare, answering: None) -> None:
    """The last test: the server is gone."""
    with link_to(flare) as link:
        assert dict(link.ask(dict.fromkeys(NAMES, b"one")))
        survivors = [job for kit in flare.sites.values() for job in jobs_at(kit)]
        assert len(survivors) == len(NAMES)
        stop(flare.server)
        with pytest.raises(WorkersLostError, match="job has ended"):
            list(link.ask(dict.fromkeys(NAMES, b"two")))
    until(lambda: not any(job.is_running() and job.status() != psutil.STATUS_ZOMBIE for job in survivors))
