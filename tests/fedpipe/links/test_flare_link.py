"""The two ends of the link through NVIDIA FLARE, with a stand-in for its job (with the real one: test_conformance)."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.links import flare_link
from fedpipe.links.flare import kit as kits
from fedpipe.links.flare_link import FlareLink
from fedpipe.links.flare_site import stay_at_kit
from fedpipe.links.local import Kind, LocalMessage, LocalSocket, connect
from tests.fedpipe.links.flare.kits import make_kit

SITES = ["site-1", "site-2"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kits, "require_installed", lambda: None)
    for role in ("server", "site", "admin"):
        kits.secure(make_kit(tmp_path / role, role))
    return tmp_path


@contextmanager
def linked(
    place: Path, monkeypatch: pytest.MonkeyPatch, relay: Callable[[LocalSocket], None], **options: Any
) -> Iterator[FlareLink]:
    """A link whose session is a thread that connects as the job's relay does."""

    def start(link: FlareLink, stack: Any, folder: Path) -> None:
        server = json.loads((folder / "job/app/config/config_fed_server.json").read_text())
        run = server["workflows"][0]["args"]["run"]

        def connected() -> None:
            for hello in (b"of an earlier job", run.encode()):
                job = connect(kits.coordinator_socket(place / "server"))
                job.send(LocalMessage(Kind.HELLO, content=hello))
            with suppress(EOFError, OSError):  # the link has ended
                relay(job)

        link._lines.put({"absent": ["site-2"]})
        threading.Thread(target=connected, daemon=True).start()

    monkeypatch.setattr(FlareLink, "_start_session", start)
    lines: list[str] = []
    options = {"wait_seconds": 20.0, "answer_seconds": 20.0, "say": lines.append} | options
    with FlareLink(place / "server", place / "admin", SITES, **options) as link:
        yield link
    assert lines in ([], ["waits for site-2, not connected to NVIDIA FLARE's server"])


def test_questions_go_to_the_relay_and_late_answers_to_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relay(job: LocalSocket) -> None:
        while True:
            question = job.receive(1000)
            job.send(LocalMessage(Kind.ANSWER, question.number - 1, question.site, b"too late"))
            job.send(LocalMessage(Kind.ANSWER, question.number, question.site, b"to " + question.content))

    with linked(place, monkeypatch, relay) as link:
        assert link.connected() == SITES
        for question in (b"one", b"two"):
            assert dict(link.ask(dict.fromkeys(SITES, question))) == dict.fromkeys(SITES, b"to " + question)
        with (
            pytest.raises(PipelineError, match="another coordinator runs with the kit"),
            monkeypatch.context() as patch,
        ):
            patch.setattr(flare_link, "_PATIENCE_SECONDS", 0.0)
            FlareLink(place / "server", place / "admin", SITES).__enter__()
    assert link.connected() == []
    with pytest.raises(WorkersLostError, match="job does not run"):
        list(link.ask({"site-1": b"three"}))


def lose(job: LocalSocket) -> None:
    number = job.receive(1000).number
    job.send(LocalMessage(Kind.LOST, number, "site-1", b"NVIDIA FLARE reports EXECUTION_EXCEPTION there"))
    job.receive(1000)


def die(job: LocalSocket) -> None:
    job.receive(1000)
    job.send(LocalMessage(Kind.LOST, 0, "site-2", b"its job in NVIDIA FLARE has ended"))
    job.receive(1000)


def end(job: LocalSocket) -> None:
    job.receive(1000)
    job.close()


def send_too_much(job: LocalSocket) -> None:
    job.send(LocalMessage(Kind.ANSWER, 1, "site-1", bytes(1001)))


@pytest.mark.parametrize(
    ("relay", "sentence"),
    [
        (lose, "site-1 is lost: NVIDIA FLARE reports EXECUTION_EXCEPTION there"),
        (die, "site-2 is lost: its job in NVIDIA FLARE has ended"),
        (end, "NVIDIA FLARE's job has ended .*: start this training again"),
        (send_too_much, "the relay sent a message of 1,001 bytes; 1,000 are allowed"),
        (lambda job: job.receive(1000), "no answer of site-1, site-2 within 0.1 s"),
    ],
)
def test_what_ends_a_question_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, relay: Callable[[LocalSocket], None], sentence: str
) -> None:
    held = threading.Event()

    def holding(job: LocalSocket) -> None:
        relay(job)
        held.wait(20.0)

    seconds = 0.1 if "within" in sentence else 20.0
    with (
        linked(place, monkeypatch, holding, largest=1000, answer_seconds=seconds) as link,
        pytest.raises(WorkersLostError, match=sentence),
    ):
        list(link.ask(dict.fromkeys(SITES, b"sums")))
    held.set()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"error": "NoConnection: cannot connect to server"}, "does not run the job: NoConnection: cannot connect"),
        ({"over": "FINISHED:ABORTED"}, "does not run the job: FINISHED:ABORTED"),
        ({"absent": ["site-2"]}, "site-2 did not connect to NVIDIA FLARE's server in 0.1 s"),
    ],
)
def test_a_job_that_does_not_start_says_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, line: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(FlareLink, "_start_session", lambda link, stack, folder: link._lines.put(line))
    with (
        pytest.raises(PipelineError, match=sentence),
        FlareLink(place / "server", place / "admin", SITES, wait_seconds=0.1),
    ):
        pass


def test_kits_that_are_not_safe_or_not_the_right_ones_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match="is a kit of NVIDIA FLARE for a site, and not for the server"):
        FlareLink(place / "site", place / "admin", SITES)
    for role in ("server", "site"):
        (place / role / "local/comm_config.json").unlink()
    with pytest.raises(PipelineError, match=r"server is not safe to use \(local/comm_config.json\)"):
        FlareLink(place / "server", place / "admin", SITES)
    with pytest.raises(PipelineError, match=r"site is not safe to use \(local/comm_config.json\)"):
        stay_at_kit(place / "site", lambda question: b"", lambda line: None, threading.Event())


def test_without_nvidia_flare_there_is_a_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kits, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="NVIDIA FLARE is not installed: run `make flare-env`"):
        FlareLink(Path("server"), Path("admin"), SITES)


def test_a_site_answers_at_its_kit_and_stays_whatever_comes(place: Path) -> None:
    lines, ending = list[str](), threading.Event()

    def answer(question: bytes) -> bytes:
        if question == b"forbidden":
            raise PipelineError("audit.jsonl cannot be written")
        return b"to " + question

    kit = place / "site"
    thread = threading.Thread(target=stay_at_kit, args=(kit, answer, lines.append, ending), kwargs={"largest": 100})
    thread.start()

    def ask(*messages: bytes | LocalMessage) -> bytes | None:
        while True:
            try:
                site = connect(kits.site_socket(kit))
                break
            except OSError:
                pass  # it begins
        try:
            for message in messages:
                if isinstance(message, bytes):
                    site._connection.sendall(message)
                else:
                    site.send(message)
            return site.receive(1000).content
        except (EOFError, OSError):
            return None
        finally:
            site.close()

    try:
        assert ask(LocalMessage(Kind.QUESTION, content=b"one")) == b"to one"
        assert ask(b"\xff" * 40) is None
        assert ask(LocalMessage(Kind.HELLO)) is None
        assert ask(LocalMessage(Kind.QUESTION, content=b"forbidden")) is None
        assert ask(LocalMessage(Kind.QUESTION, content=bytes(101))) is None
        assert ask(LocalMessage(Kind.QUESTION, content=b"two")) == b"to two"
        assert lines == [
            "bytes that are no message",
            "a message that is no question",
            "audit.jsonl cannot be written",
            "a message of 101 bytes; 100 are allowed",
        ]
    finally:
        ending.set()
        thread.join(20.0)
    assert not thread.is_alive() and not kits.site_socket(kit).exists()
