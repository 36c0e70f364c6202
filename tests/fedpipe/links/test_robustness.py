"""What peers of the gRPC link cannot do to others: stop them, take all threads or much memory, or be believed."""

import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest

from fedpipe.links import coordinator_side
from fedpipe.links.coordinator_side import GrpcLink
from fedpipe.links.frames import frames
from fedpipe.links.options import METHOD
from fedpipe.links.site_side import stay
from fedpipe.system.certificates import files, make_certificates
from tests import ROOT
from tests.fedpipe.links.sites import thread_of

SITES = ["site-1", "site-2"]
SECONDS = 30.0
MB = 10**6
PREFACE, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # of HTTP/2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, ["coordinator", *SITES, "stranger"])
    return folder


@pytest.fixture
def link(certificates: Path) -> Iterator[GrpcLink]:
    with (
        GrpcLink("127.0.0.1:0", certificates, SITES, wait_seconds=SECONDS, reconnect_seconds=0.0) as link,
        thread_of(stay, f"127.0.0.1:{link.port}", certificates, "site-1", bytes, first_pause=0.05),
    ):
        yield link


def answers(link: GrpcLink, *names: str) -> float:
    """Seconds until the sites have answered; they must."""
    begin = time.monotonic()
    assert dict(link.ask(dict.fromkeys(names, b"sums"))) == dict.fromkeys(names, b"sums")
    return time.monotonic() - begin


def channel(link: GrpcLink, certificates: Path, name: str) -> grpc.Channel:
    ca, certificate, key = (file.read_bytes() for file in files(certificates, name))
    options = [("grpc.ssl_target_name_override", "coordinator"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"127.0.0.1:{link.port}", grpc.ssl_channel_credentials(ca, key, certificate), options)


@contextmanager
def connected(link: GrpcLink, certificates: Path, name: str) -> Iterator[ssl.SSLSocket]:
    """A TLS connection with a certificate, and no HTTP/2 on it."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", link.port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="coordinator") as encrypted,
    ):
        yield encrypted


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_site_that_reads_nothing_takes_no_thread_from_others(link: GrpcLink, certificates: Path) -> None:
    """It opens streams, one after the other, and lets each question lie."""
    large, arrived = bytes(8 * 2**20), dict[str, bytes]()
    asking = threading.Thread(target=lambda: arrived.update(link.ask({"site-2": large})), daemon=True)
    asking.start()
    with ExitStack() as stack:
        calls = []  # a call that is collected is cancelled
        for _ in range(3 * (2 * len(SITES) + 4)):
            opened = stack.enter_context(channel(link, certificates, "site-2"))
            ending = threading.Event()
            stack.callback(ending.set)
            nothing = iter(lambda ending=ending: None if ending.wait() else b"", None)
            calls.append(opened.stream_stream(METHOD)(nothing, timeout=SECONDS))
            calls[-1].initial_metadata()  # comes with the first frame of the question, or when the stream is refused
        assert [each.name for each in threading.enumerate()].count("reads-site-2") <= 3
        with thread_of(stay, f"127.0.0.1:{link.port}", certificates, "site-2", bytes, first_pause=0.05):
            asking.join(SECONDS)
            assert arrived == {"site-2": large}
            answers(link, *SITES)


def test_connections_that_are_silent_or_slow_hinder_nobody(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a certificate, with one and no stream, and with a byte now and then; they are closed after a while."""
    short = {"grpc.server_handshake_timeout_ms": 1000, "grpc.max_connection_idle_ms": 1000}
    options = [(name, short.get(name, value)) for name, value in coordinator_side._OWN_OPTIONS]
    monkeypatch.setattr(coordinator_side, "_OWN_OPTIONS", options)
    with (
        GrpcLink("127.0.0.1:0", certificates, SITES, wait_seconds=SECONDS) as link,
        thread_of(stay, f"127.0.0.1:{link.port}", certificates, "site-1", bytes, first_pause=0.05),
        ExitStack() as stack,
    ):
        answers(link, "site-1")
        process, threads = psutil.Process(), threading.active_count()
        before = process.memory_info().rss
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", link.port), SECONDS)) for _ in range(200)]
        proved = [stack.enter_context(connected(link, certificates, "stranger")) for _ in range(20)]
        for encrypted in proved[:10]:
            encrypted.sendall(PREFACE + SETTINGS)
        dribbling = stack.enter_context(connected(link, certificates, "site-2"))
        for byte in PREFACE[:12]:
            dribbling.send(bytes([byte]))
            assert answers(link, "site-1") < SECONDS / 2
        assert threading.active_count() <= threads + 1
        assert process.memory_info().rss - before < 100 * MB
        for each in [*silent, *proved, dribbling]:
            with suppress(ConnectionError):
                while each.recv(1000):
                    pass  # the server's first frame
        answers(link, "site-1")


@pytest.mark.parametrize("seed", range(3))
def test_bytes_that_are_no_http_end_their_connection_alone(link: GrpcLink, certificates: Path, seed: int) -> None:
    generator = random.Random(seed)
    for name in (*SITES, "stranger"):
        with connected(link, certificates, name) as encrypted, suppress(OSError):
            if seed:
                encrypted.sendall(PREFACE)
            encrypted.sendall(generator.randbytes(3000))
            while encrypted.recv(1000):
                pass
        answers(link, "site-1")


def test_streams_of_others_are_no_ones_and_a_connection_has_few(link: GrpcLink, certificates: Path) -> None:
    answers(link, "site-1")
    threads = threading.active_count()
    with ExitStack() as stack:
        calls = []
        for _ in range(10):
            opened = stack.enter_context(channel(link, certificates, "stranger"))
            calls += [opened.stream_stream(METHOD)(iter([b"x"]), timeout=SECONDS) for _ in range(5)]
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
            assert refused.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert answers(link, "site-1") < SECONDS / 2
    until(lambda: threading.active_count() <= threads + 60)
    assert link.connected() == ["site-1"]


def test_a_frame_that_is_too_large_is_refused_before_it_has_come(link: GrpcLink, certificates: Path) -> None:
    with channel(link, certificates, "site-2") as opened:
        call = opened.stream_stream(METHOD)(iter([bytes(8 * 2**20)]), timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    answers(link, "site-1")


_GIBIBYTE = """
import sys, grpc
ca, certificate, key, port, method = sys.argv[1:]
credentials = grpc.ssl_channel_credentials(*(open(file, "rb").read() for file in (ca, key, certificate)))
options = [("grpc.ssl_target_name_override", "coordinator"), ("grpc.max_send_message_length", -1)]
with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
    try:
        list(channel.stream_stream(method)(iter([bytes(2**30)]), timeout=120))
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.mark.slow
def test_a_frame_of_a_gibibyte_takes_no_memory(link: GrpcLink, certificates: Path) -> None:
    answers(link, "site-1")
    peak, before, ended = 0, psutil.Process().memory_info().rss, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, psutil.Process().memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    own = [str(file) for file in files(certificates, "site-2")]
    command = [sys.executable, "-c", _GIBIBYTE, *own, str(link.port), METHOD]
    sent = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    ended.set()
    watching.join()
    assert sent.stdout == "RESOURCE_EXHAUSTED\n", sent.stderr
    assert peak - before < 50 * MB, f"{(peak - before) / MB:.0f} MB"
    answers(link, "site-1")


@pytest.mark.slow
def test_frames_that_were_changed_on_the_way_are_cut_off_and_hinder_nobody(link: GrpcLink, certificates: Path) -> None:
    """A site-2 that answers each question with frames of which some bytes are others."""
    generator, refused = random.Random(1), 0
    for number in range(1, 300):
        sent = [bytearray(frame) for frame in frames(number, generator.randbytes(generator.choice([0, 5, 2**20 + 3])))]
        for _ in range(generator.randrange(4)):
            frame = sent[generator.randrange(len(sent))]
            if frame:
                frame[generator.randrange(min(len(frame), 24))] = generator.randrange(256)
                del frame[generator.randrange(len(frame) + 1) + generator.choice([0, 10**7]) :]
        with channel(link, certificates, "site-2") as opened, pytest.raises(grpc.RpcError):
            list(opened.stream_stream(METHOD)(iter([bytes(each) for each in sent]), timeout=SECONDS))
        refused += 1
        if number % 20 == 0:
            answers(link, "site-1")
    assert refused == 299
    until(lambda: "site-2" not in link.connected())


class Middle:
    """A router between a site and the coordinator, which may stop to carry anything without a word."""

    def __init__(self, port: int) -> None:
        self._to, self._listening = port, socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.carries, self.carried = threading.Event(), 0
        self.carries.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(2**16):
                if not self.carries.is_set():
                    return
                self.carried += len(content)
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.slow
def test_an_idle_stream_is_kept_alive_and_a_dead_one_is_noticed(link: GrpcLink, certificates: Path) -> None:
    """Within half a minute, at both ends, although no packet says so."""
    middle = Middle(link.port)
    with thread_of(stay, f"127.0.0.1:{middle.port}", certificates, "site-2", bytes, first_pause=0.05) as lines:
        answers(link, *SITES)
        carried = middle.carried
        time.sleep(25.0)
        assert middle.carried > carried and link.connected() == SITES  # a sign of life at least every 20 s
        middle.carries.clear()
        begin = time.monotonic()
        until(lambda: link.connected() == ["site-1"], 40.0)
        until(lambda: bool(lines), 40.0)
        assert time.monotonic() - begin < 45.0
        middle.carries.set()
        answers(link, *SITES)
