"""The gRPC link on loopback, with sites that echo: who gets in, what is cut off, and what comes back."""

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from fedpipe.errors import PipelineError, SitesLostError, WorkersLostError
from fedpipe.links import coordinator_side
from fedpipe.links.coordinator_side import GrpcLink
from fedpipe.links.frames import frames
from fedpipe.links.options import METHOD
from fedpipe.links.site_side import stay
from fedpipe.system.certificates import files, make_certificates, revoke

SITES = ["site-1", "site-2"]
SECONDS = 20.0


def echo(question: bytes) -> bytes:
    return b"answer to " + question


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, ["coordinator", *SITES, "stranger"])
    return folder


@contextmanager
def listening(certificates: Path, **options: float) -> Iterator[tuple[GrpcLink, list[str]]]:
    lines: list[str] = []
    options = {"wait_seconds": SECONDS, "reconnect_seconds": 0.0} | options
    with GrpcLink("127.0.0.1:0", certificates, SITES, say=lines.append, **options) as link:  # type: ignore[arg-type]
        yield link, lines


@contextmanager
def site(link: GrpcLink, certificates: Path, name: str, answer: Callable[[bytes], bytes] = echo) -> Iterator[list[str]]:
    lines, ending = list[str](), threading.Event()
    arguments = (f"127.0.0.1:{link.port}", certificates, name, answer, lines.append, ending)
    thread = threading.Thread(target=stay, args=arguments, kwargs={"first_pause": 0.05}, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ending.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sites_answer_and_listen_nowhere(certificates: Path) -> None:
    large = bytes(3 * 2**20 + 5)
    before = {each.laddr for each in psutil.Process().net_connections() if each.status == psutil.CONN_LISTEN}
    with listening(certificates) as (link, _), site(link, certificates, "site-1"), site(link, certificates, "site-2"):
        for question in (b"one", b"", large):
            assert dict(link.ask(dict.fromkeys(SITES, question))) == dict.fromkeys(SITES, b"answer to " + question)
        assert dict(link.ask({"site-2": b"alone"})) == {"site-2": b"answer to alone"}
        now = {each.laddr for each in psutil.Process().net_connections() if each.status == psutil.CONN_LISTEN}
        assert {port for _, port in now - before} == {link.port}


def test_a_site_that_is_lost_with_a_question_gets_it_again(certificates: Path) -> None:
    """Whether it comes back as the same process, or as another one."""
    questions, lost = list[bytes](), threading.Event()

    def silent(question: bytes) -> bytes:
        questions.append(question)
        lost.wait(SECONDS)
        return b"too late"

    with listening(certificates) as (link, lines), site(link, certificates, "site-2"):
        answers: dict[str, bytes] = {}
        asking = threading.Thread(target=lambda: answers.update(link.ask(dict.fromkeys(SITES, b"sums"))), daemon=True)
        with site(link, certificates, "site-1", silent):
            asking.start()
            until(lambda: bool(questions))
            with site(link, certificates, "site-1"):
                asking.join(SECONDS)
                assert answers == dict.fromkeys(SITES, b"answer to sums")
                lost.set()
                assert dict(link.ask({"site-1": b"next"})) == {"site-1": b"answer to next"}
        assert lines.count("site-1 is connected") >= 2


def test_others_answer_where_a_site_is_lost(certificates: Path) -> None:
    lost: list[str] = []
    questions = dict.fromkeys(SITES, b"sums")
    with listening(certificates, wait_seconds=0.5) as (link, _), site(link, certificates, "site-1"):
        answers = dict(link.ask(questions, lambda error: lost.extend(error.sites)))
        assert answers == {"site-1": b"answer to sums"} and lost == ["site-2"]
        with pytest.raises(SitesLostError, match=r"^site-2 was not connected for 0.5 s$"):
            list(link.ask(questions))
        with site(link, certificates, "site-2"):
            until(lambda: "site-2" in link.connected())
            assert dict(link.ask(questions)) == dict.fromkeys(SITES, b"answer to sums")


def test_a_site_that_answers_too_late_is_disconnected_until_it_has_answered(certificates: Path) -> None:
    lost, slow = list[str](), threading.Event()

    def late(question: bytes) -> bytes:
        assert slow.wait(SECONDS)
        return echo(question)

    with listening(certificates, answer_seconds=0.5) as (link, _), site(link, certificates, "site-1", late):
        until(lambda: bool(link.connected()))
        assert not dict(link.ask({"site-1": b"one"}, lambda error: lost.extend(error.sites)))
        assert lost == ["site-1"] and not link.connected()
        slow.set()
        until(lambda: bool(link.connected()))
        assert dict(link.ask({"site-1": b"two"})) == {"site-1": b"answer to two"}


def test_sites_that_are_waited_for_are_named_with_the_round(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_side, "_SAY_SECONDS", 1.0)
    slow = threading.Event()

    def late(question: bytes) -> bytes:
        assert slow.wait(SECONDS)
        return echo(question)

    with listening(certificates) as (link, lines), site(link, certificates, "site-1", late):
        link.about = "round 3"
        until(lambda: bool(link.connected()))
        asking = threading.Thread(target=lambda: list(link.ask(dict.fromkeys(SITES, b"sums"))), daemon=True)
        asking.start()
        until(lambda: any("waiting for" in line for line in lines))
        (line,) = (line for line in lines if "waiting for" in line)
        assert re.fullmatch(r"round 3: waiting for site-1 \(connected, \d+ s\), site-2 \(not connected, \d+ s\)", line)
        slow.set()
        with site(link, certificates, "site-2"):
            asking.join(SECONDS)
            assert not asking.is_alive()


def test_only_certificates_of_the_ca_that_name_a_site_open_the_door(certificates: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path / "other", ["coordinator", *SITES])
    with listening(certificates) as (link, _):
        with site(link, tmp_path / "other", "site-1") as lines:
            until(lambda: bool(lines))
            assert not link.connected()
        with site(link, certificates, "stranger") as lines:
            until(lambda: bool(lines))
            assert "names no site of this federation" in lines[0] and not link.connected()
        credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes())  # none of its own
        options = [("grpc.ssl_target_name_override", "coordinator")]
        with (
            grpc.secure_channel(f"127.0.0.1:{link.port}", credentials, options) as channel,
            pytest.raises(grpc.RpcError),
        ):
            list(channel.stream_stream(METHOD)(iter([b""]), timeout=SECONDS))


def test_a_site_talks_to_the_coordinator_alone(certificates: Path, tmp_path: Path) -> None:
    """A site that listens with its own certificate is no coordinator."""
    false = tmp_path / "false"
    false.mkdir()
    for name, source in (("ca.pem", "ca.pem"), ("coordinator.pem", "site-2.pem"), ("coordinator.key", "site-2.key")):
        (false / name).write_bytes((certificates / source).read_bytes())
    with listening(false) as (link, _), site(link, certificates, "site-1") as lines:
        until(lambda: bool(lines))
        assert not link.connected()


def test_a_revoked_certificate_opens_nothing_and_ends_its_stream(certificates: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path, ["coordinator", *SITES])
    with listening(tmp_path, wait_seconds=0.5) as (link, _), site(link, tmp_path, "site-1") as lines:
        assert dict(link.ask({"site-1": b"one"}))
        revoke(tmp_path, "site-1")
        with pytest.raises(WorkersLostError, match=r"site-1 was not connected for 0.5 s"):
            list(link.ask({"site-1": b"two"}))
        assert any("the certificate is revoked" in line for line in lines)
    (tmp_path / "revoked.pem").write_text("nothing")
    with pytest.raises(PipelineError, match=r"revoked.pem is no list that the CA .* has signed"):
        GrpcLink("127.0.0.1:0", tmp_path, SITES)


@pytest.mark.parametrize("sent", [list(frames(5, b"unasked")), [b"x"], list(frames(1, bytes(2**20)))])
def test_what_nobody_asked_for_ends_the_stream(certificates: Path, sent: list[bytes]) -> None:
    ca, certificate, key = (file.read_bytes() for file in files(certificates, "site-1"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.ssl_target_name_override", "coordinator")]
    with (
        listening(certificates) as (link, lines),
        grpc.secure_channel(f"127.0.0.1:{link.port}", credentials, options) as channel,
    ):
        call = channel.stream_stream(METHOD)(iter(sent))
        with pytest.raises(grpc.RpcError):
            list(call)
        until(lambda: any("is cut off" in line for line in lines))
        until(lambda: not link.connected())  # which comes after the words


def test_an_answer_that_is_too_large_ends_the_question(certificates: Path) -> None:
    with (
        listening(certificates, largest=1000) as (link, _),
        site(link, certificates, "site-1", lambda question: bytes(1001)),
        pytest.raises(WorkersLostError, match=r"site-1 sent a message of 1,001 bytes; 1,000 are allowed"),
    ):
        list(link.ask({"site-1": b"sums"}))


def test_a_site_that_sends_no_answer_is_lost_and_others_are_waited_for(certificates: Path) -> None:
    """Its stream is cut, and it answers the next question on another one."""
    lost, sent = list[str](), [bytes(1001)]
    with (
        listening(certificates, largest=1000) as (link, _),
        site(link, certificates, "site-1", lambda question: sent.pop() if sent else echo(question)),
        site(link, certificates, "site-2", lambda question: until(lambda: bool(lost)) or echo(question)),
    ):
        answers = dict(link.ask(dict.fromkeys(SITES, b"1"), lambda error: lost.extend(error.sites)))
        assert lost == ["site-1"] and answers == {"site-2": echo(b"1")}
        assert dict(link.ask(dict.fromkeys(SITES, b"2"))) == dict.fromkeys(SITES, echo(b"2"))


def test_streams_that_come_too_fast_are_turned_away(certificates: Path) -> None:
    ca, certificate, key = (file.read_bytes() for file in files(certificates, "site-1"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.ssl_target_name_override", "coordinator")]
    codes = []
    with listening(certificates, reconnect_seconds=60.0) as (link, _):
        for _ in range(2):
            with grpc.secure_channel(f"127.0.0.1:{link.port}", credentials, options) as channel:
                try:
                    list(channel.stream_stream(METHOD)(iter([b"x"])))
                except grpc.RpcError as error:
                    codes.append(error.code())
    assert codes[1] is grpc.StatusCode.RESOURCE_EXHAUSTED and codes[0] is not codes[1]


def test_two_coordinators_at_a_port_are_an_error(certificates: Path) -> None:
    with (
        listening(certificates) as (link, _),
        pytest.raises(PipelineError, match=r"cannot listen at 127.0.0.1:\d+: is another one running"),
        GrpcLink(f"127.0.0.1:{link.port}", certificates, SITES),
    ):
        pass


def test_a_list_of_revoked_certificates_that_is_damaged_lets_nobody_in(certificates: Path, tmp_path: Path) -> None:
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    with listening(tmp_path) as (link, heard):
        (tmp_path / "revoked.pem").write_text("nothing")
        with site(link, tmp_path, "site-1") as lines:
            until(lambda: any("cannot read its list of revoked certificates" in line for line in lines))
        assert not link.connected() and any("is no list that the CA of" in line for line in heard)


def test_a_site_that_cannot_write_its_audit_log_sends_nothing_and_says_so(certificates: Path) -> None:
    def full(question: bytes) -> bytes:
        raise PipelineError("audit.jsonl cannot be written")

    with (
        listening(certificates, answer_seconds=0.5) as (link, _),
        site(link, certificates, "site-1", full) as lines,
        pytest.raises(WorkersLostError, match="no answer of site-1"),
    ):
        list(link.ask({"site-1": b"sums"}))
    assert any(": audit.jsonl cannot be written; tries again in" in line for line in lines)


def test_a_certificate_that_is_valid_no_longer_ends_the_site_with_a_sentence(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["coordinator", "site-1"])
    make_certificates(tmp_path / "other", ["coordinator", "site-1"])
    lines: list[str] = []

    def exchange(line: str) -> None:
        lines.append(line)
        (tmp_path / "ca.pem").write_bytes((tmp_path / "other/ca.pem").read_bytes())

    with pytest.raises(PipelineError, match=r"site-1.pem is not a certificate that the CA of .*ca.pem has signed"):
        stay("127.0.0.1:1", tmp_path, "site-1", echo, exchange, threading.Event(), first_pause=0.01)
    assert len(lines) == 1
