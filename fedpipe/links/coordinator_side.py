"""The coordinator's end of the gRPC link: one port, at which sites open a stream each, with certificates of one CA.

A stream's site is the name in its certificate. Of two streams of a site the newer one counts. A question waits until
its site is connected, and goes out again when the site comes back without having answered it.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.federation.answers import raise_lost
from fedpipe.links.frames import frames, messages
from fedpipe.links.line import Line
from fedpipe.links.options import CALL, COORDINATOR, OPTIONS, SERVICE
from fedpipe.links.settings import LinkSettings
from fedpipe.system.certificates import FEDERATION, files, revoked, serial_number, soon

_LOOK_SECONDS = 1.0
_SAY_SECONDS = 10.0  # after which a site that is waited for is named
_SAY_AGAIN = 6  # times that long until it is named again
_STREAMS = 4  # of a connection
_OWN_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second coordinator at the same port is an error
    ("grpc.max_concurrent_streams", _STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 10_000),  # without a stream
    ("grpc.max_metadata_size", 16 * 2**10),
]


class GrpcLink:
    """`Link` of fedpipe/federation/coordinator.py; a context manager that listens."""

    def __init__(
        self,
        address: str,
        certificates: Path,
        sites: Collection[str],
        *,
        wait_seconds: float = 600.0,
        answer_seconds: float = 3600.0,
        reconnect_seconds: float = 1.0,
        largest: int = 2**31 - 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Listens from `__enter__` on.

        Args:
          address: host:port; port 0 is any free one.
          certificates: The folder with the coordinator's certificate and the CA's, and the list of revoked ones.
          sites: Their names.
          wait_seconds: For a site that is not connected.
          answer_seconds: For the answer of a site that is connected.
          reconnect_seconds: Between two streams of a site, at least.
          largest: The bytes that an answer may have.
          say: Called with a line about sites that come, go and are waited for.

        Raises:
          PipelineError: A certificate is missing or not valid, or the list of revoked ones is damaged.
        """
        self._address, self._certificates, self._say = address, certificates, say
        self._wait_seconds, self._answer_seconds, self._largest = wait_seconds, answer_seconds, largest
        ca, certificate, key = (file.read_bytes() for file in files(certificates, COORDINATOR, FEDERATION))
        revoked(certificates)
        self._credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
        self._lines = {name: Line(name, reconnect_seconds) for name in sites}
        self._answers: queue.Queue[tuple[str, int, bytes | PipelineError]] = queue.Queue()
        self._numbers = itertools.count(1)
        # A site's stream takes a thread, and so does the one that takes its place; others are turned away at once.
        threads = 2 * len(self._lines) + _STREAMS
        self._server = grpc.server(
            ThreadPoolExecutor(threads), options=[*OPTIONS, *_OWN_OPTIONS], maximum_concurrent_rpcs=threads
        )
        self.port = 0  # where it listens
        self.about = ""  # the request's subject, for lines about awaited sites

    @staticmethod
    def of(settings: LinkSettings, sites: Collection[str], say: Callable[[str], None]) -> "GrpcLink":
        """The link of a coordinator to ``sites``."""
        return GrpcLink(
            settings.address,
            settings.certificates,
            sites,
            wait_seconds=settings.wait_seconds,
            answer_seconds=settings.answer_seconds,
            say=say,
        )

    def connected(self) -> list[str]:
        """The sites that are connected."""
        return [name for name, line in self._lines.items() if line.is_connected]

    def ask(
        self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
    ) -> Iterator[tuple[str, bytes]]:
        """Asks sites, and yields their answers as they arrive.

        Args:
          questions: By the name of the site.
          lost: Called with sites that were not connected, did not answer for too long, or sent something else than an
            answer; the last two are disconnected. By default that ends the question, with that error.
        """
        number, left, asked_at = next(self._numbers), set(questions), time.monotonic()
        named = asked_at
        try:
            for name, question in questions.items():
                self._lines[name].put(number, question)
            while left:
                try:
                    name, answered, content = self._answers.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    try:
                        named = self._look(left, asked_at, named)
                    except SitesLostError as error:
                        lost(error)
                        left.difference_update(error.sites)
                        for name in error.sites:
                            self._lines[name].clear()
                    continue
                if answered != number or name not in left:
                    continue
                left.discard(name)
                self._lines[name].clear()
                if isinstance(content, PipelineError):
                    lost(SitesLostError(f"{name} sent {content}", [name]))
                else:
                    yield name, content
        finally:
            for name in left:
                self._lines[name].clear()

    def _look(self, left: Collection[str], asked_at: float, named: float) -> float:
        """Names sites that are waited for, from time to time; returns when it did so last.

        Raises:
          SitesLostError: Some have been waited for too long.
        """
        now = time.monotonic()
        gone = {name: self._lines[name].left_at for name in sorted(left) if not self._lines[name].is_connected}
        if lost := [name for name, since in gone.items() if now - max(asked_at, since) > self._wait_seconds]:
            were = "was" if len(lost) == 1 else "were"
            raise SitesLostError(f"{', '.join(lost)} {were} not connected for {self._wait_seconds:g} s", lost)
        if now - asked_at > self._answer_seconds:
            for name in left:
                self._lines[name].cut()
            raise SitesLostError(f"no answer of {', '.join(sorted(left))} within {self._answer_seconds:g} s", left)
        if now - named < _SAY_SECONDS * (1 if named == asked_at else _SAY_AGAIN):
            return named
        phrases = [
            f"{name} (not connected, {now - max(asked_at, gone[name]):.0f} s)"
            if name in gone
            else f"{name} (connected, {now - asked_at:.0f} s)"
            for name in sorted(left)
        ]
        self._say(f"{f'{self.about}: ' if self.about else ''}waiting for {', '.join(phrases)}")
        return now

    def _serve(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """A stream: yields the frames of questions, while a thread reads those of answers."""
        line = self._admitted(context)
        stream = line.open(context.cancel)
        if not stream:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams in a short time")
        context.add_callback(lambda: line.close(stream))
        self._say(f"{line.name} is connected")

        def read() -> None:
            try:
                for number, content in messages(incoming, self._largest, lambda number: line.expects(stream, number)):
                    line.received(stream, number)
                    self._answers.put((line.name, number, content))
            except PipelineError as error:
                self._say(f"{line.name} sent {error}, and is cut off")
                self._answers.put((line.name, line.number(stream), error))
            except grpc.RpcError:
                pass  # the stream has ended
            context.cancel()
            line.close(stream)

        threading.Thread(target=read, daemon=True, name=f"reads-{line.name}").start()
        for number, content in line.questions(stream):
            if self._is_revoked(context):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "the certificate is revoked")
            yield from frames(number, content)

    def _admitted(self, context: grpc.ServicerContext) -> Line:
        """The line of the stream's site; ends the stream of anybody else."""
        names = context.auth_context().get("x509_common_name", [])
        line = self._lines.get(names[0].decode()) if len(names) == 1 else None
        if line is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the certificate names no site of this federation")
            raise PipelineError("a stream of nobody")  # `abort` has raised
        if self._is_revoked(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the certificate is revoked")
        return line

    def _is_revoked(self, context: grpc.ServicerContext) -> bool:
        (certificate,) = context.auth_context()["x509_pem_cert"]
        try:
            return serial_number(certificate) in revoked(self._certificates)
        except PipelineError as error:  # then nobody is let in
            self._say(str(error))
            context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator cannot read its list of revoked certificates")
            raise  # `abort` has raised

    def __enter__(self) -> "GrpcLink":
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {CALL: handler}),))
        try:
            self.port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise PipelineError(f"the coordinator cannot listen at {self._address}: is another one running?")
        self._server.start()
        if sentence := soon(self._certificates, COORDINATOR):
            self._say(sentence)
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.end()
        self._server.stop(1.0).wait()
