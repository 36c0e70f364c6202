"""What every link must do, with sites that echo: the same questions and answers over gRPC and over NVIDIA FLARE."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.links.coordinator_side import GrpcLink
from fedpipe.links.flare_link import FlareLink
from fedpipe.links.flare_site import stay_at_kit
from fedpipe.links.site_side import stay
from fedpipe.system.certificates import make_certificates

NAMES = ["site-1", "site-2", "site-3"]
SECONDS = 60.0
LARGEST = 34 * 2**20
Way = Callable[[Callable[[bytes], bytes], Callable[[str], None], threading.Event], None]


def echo(name: str, question: bytes) -> bytes:
    return name.encode() + b" answers " + question


class Running:
    """A link and its sites, whose answers a test may change."""

    def __init__(self, link: Any, ways: dict[str, Way]) -> None:
        self.link, self._ways = link, ways
        self.answers: dict[str, Callable[[bytes], bytes]] = {}
        self.heard: list[tuple[str, bytes]] = []
        self._stops: dict[str, Callable[[], None]] = {}

    def start(self, name: str) -> None:
        ending = threading.Event()

        def answer(question: bytes) -> bytes:
            self.heard.append((name, question))
            return self.answers.get(name, partial(echo, name))(question)

        thread = threading.Thread(target=self._ways[name], args=(answer, lambda line: None, ending), daemon=True)
        thread.start()

        def stop() -> None:
            ending.set()
            thread.join(SECONDS)
            assert not thread.is_alive()

        self._stops[name] = stop

    def stop(self, *names: str) -> None:
        for name in names or tuple(self._stops):
            self._stops.pop(name)()

    def ask(self, questions: dict[str, bytes]) -> dict[str, bytes]:
        return dict(self.link.ask(questions))


@contextmanager
def over_grpc(folder: Path) -> Iterator[Running]:
    make_certificates(folder, ["coordinator", *NAMES])
    with GrpcLink("127.0.0.1:0", folder, NAMES, wait_seconds=SECONDS, reconnect_seconds=0.0, largest=LARGEST) as link:
        address = f"127.0.0.1:{link.port}"
        ways: dict[str, Way] = {name: partial(stay, address, folder, name, first_pause=0.05) for name in NAMES}  # type: ignore[call-arg]
        yield Running(link, ways)


@contextmanager
def over_flare(folder: Path) -> Iterator[Running]:
    from operations.federation.local_flare import LocalFlare

    with (
        LocalFlare(folder, NAMES) as flare,
        FlareLink(flare.server, flare.admin, NAMES, wait_seconds=4 * SECONDS, largest=LARGEST) as link,
    ):
        yield Running(link, {name: partial(stay_at_kit, flare.sites[name]) for name in NAMES})


FLARE = [pytest.mark.slow, pytest.mark.skipif(find_spec("nvflare") is None, reason="needs `make flare-env`")]


@pytest.fixture(scope="module", params=[over_grpc, pytest.param(over_flare, marks=FLARE)], ids=["grpc", "flare"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        running = stack.enter_context(request.param(tmp_path_factory.mktemp("link")))
        for name in NAMES:
            running.start(name)
        stack.callback(lambda: running.stop())
        yield running


@pytest.fixture
def running(opened: Running) -> Iterator[Running]:
    opened.heard.clear()
    yield opened
    opened.answers.clear()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_site_gets_its_own_question_and_its_answer_has_its_name(running: Running) -> None:
    for number in range(3):
        questions = {name: f"{number} for {name}".encode() for name in NAMES}
        assert running.ask(questions) == {name: echo(name, question) for name, question in questions.items()}
    assert running.ask({"site-2": b"alone"}) == {"site-2": b"site-2 answers alone"}
    assert [question for name, question in running.heard if name == "site-1"] == [
        f"{number} for site-1".encode() for number in range(3)
    ]


def test_answers_come_as_sites_are_ready(running: Running) -> None:
    released = threading.Event()
    running.answers["site-1"] = lambda question: b"late" if released.wait(SECONDS) else b""
    arrived = []
    for name, _ in running.link.ask(dict.fromkeys(NAMES, b"sums")):
        arrived.append(name)
        if len(arrived) == 2:
            released.set()
    assert arrived[2] == "site-1" and set(arrived[:2]) == {"site-2", "site-3"}


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 33 * 2**20 + 5])
def test_messages_of_any_size_go_there_and_back(running: Running, size: int) -> None:
    question = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    question = question[:size]
    assert running.ask(dict.fromkeys(NAMES, question)) == {name: echo(name, question) for name in NAMES}


def test_an_answer_that_nobody_waits_for_any_more_is_nobody_elses(running: Running) -> None:
    released, reached = threading.Event(), threading.Event()

    def late(question: bytes) -> bytes:
        reached.set()
        return b"of the first" if released.wait(SECONDS) else b""

    running.answers["site-1"] = late
    first = running.link.ask(dict.fromkeys(NAMES, b"first"))
    next(first)
    assert reached.wait(SECONDS)
    first.close()  # as when the training stops
    del running.answers["site-1"]
    released.set()
    assert running.ask(dict.fromkeys(NAMES, b"second")) == {name: echo(name, b"second") for name in NAMES}


def test_a_site_that_comes_back_gets_the_question_again(running: Running) -> None:
    reached, released = threading.Event(), threading.Event()

    def lost(question: bytes) -> bytes:
        reached.set()
        released.wait(SECONDS)
        raise PipelineError("this process ends")

    running.answers["site-1"] = lost
    answers: dict[str, bytes] = {}
    asking = threading.Thread(target=lambda: answers.update(running.ask(dict.fromkeys(NAMES, b"sums"))), daemon=True)
    asking.start()
    assert reached.wait(SECONDS)
    del running.answers["site-1"]
    released.set()
    running.stop("site-1")
    time.sleep(0.2)  # away for a moment
    running.start("site-1")
    asking.join(SECONDS)
    assert answers == {name: echo(name, b"sums") for name in NAMES}
    assert {question for name, question in running.heard if name == "site-1"} == {b"sums"}


def test_a_site_that_refuses_sends_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(question: bytes) -> bytes:
        raise PipelineError("audit.jsonl cannot be written")

    running.answers["site-1"] = refuse
    monkeypatch.setattr(running.link, "_answer_seconds", 1.0)
    with pytest.raises(WorkersLostError, match=r"no answer of site-1 within 1 s"):
        running.ask(dict.fromkeys(NAMES, b"sums"))
    del running.answers["site-1"]
    monkeypatch.undo()
    until(lambda: running.heard.count(("site-1", b"sums")) >= 1)
    assert running.ask(dict.fromkeys(NAMES, b"next")) == {name: echo(name, b"next") for name in NAMES}


def test_an_answer_that_is_too_large_ends_the_question(running: Running) -> None:
    """The last test: after it a link may be of no more use."""
    running.answers["site-1"] = lambda question: bytes(LARGEST + 1)
    with pytest.raises(WorkersLostError, match=rf"sent a message of {LARGEST + 1:,} bytes; {LARGEST:,} are allowed"):
        running.ask({"site-1": b"sums"})
