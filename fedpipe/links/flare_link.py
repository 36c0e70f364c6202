"""The coordinator's end of the link through NVIDIA FLARE: a job of its federation brings questions to the sites.

A relay in the server's job process connects to this process over a Unix socket. When either is gone, the job ends.
"""

import itertools
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedpipe.errors import PipelineError, SitesLostError, WorkersLostError
from fedpipe.federation.answers import raise_lost
from fedpipe.links.flare import kit as kits
from fedpipe.links.flare.job import write_job
from fedpipe.links.local import Kind, LocalMessage, LocalSocket, listen
from fedpipe.links.settings import LinkSettings
from fedpipe.system.locks import LockTaken, locked_file

_PROJECT = Path(__file__).resolve().parents[2]
_LOOK_SECONDS = 0.5
_START_SECONDS = 120.0  # from the job's submission to its relay
_END_SECONDS = 20.0
_PATIENCE_SECONDS = 5.0


class FlareLink:
    """`Link` of fedpipe/federation/answers.py; a context manager with the job."""

    def __init__(
        self,
        server: Path,
        admin: Path,
        sites: Sequence[str],
        *,
        wait_seconds: float = 600.0,
        answer_seconds: float = 3600.0,
        largest: int = 2**31 - 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Submits the job in `__enter__`.

        Args:
          server: The folder of the server's kit.
          admin: The folder of the kit of the user who submits the job.
          sites: Their names, as in their kits.
          wait_seconds: For the server and the sites to be there.
          answer_seconds: For an answer.
          largest: The bytes that an answer may have.
          say: Called with a line about sites that are waited for.

        Raises:
          PipelineError: NVIDIA FLARE is not installed, or a kit is missing or not safe to use.
        """
        kits.require_installed()
        kits.require_role(server, "server")
        kits.require_role(admin, "admin")
        for kit in (server, admin):
            kits.require_secure(kit)
        self._server, self._admin, self._sites, self._say = server.resolve(), admin.resolve(), list(sites), say
        self._wait_seconds, self._answer_seconds, self._largest = wait_seconds, answer_seconds, largest
        self._numbers = itertools.count(1)
        self._arrived: queue.Queue[LocalMessage | PipelineError | None] = queue.Queue()
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()  # of the session
        self._lost: dict[str, str] = {}
        self._stack = ExitStack()
        self._relay: LocalSocket | None = None
        self.about = ""

    @staticmethod
    def of(settings: LinkSettings, sites: Sequence[str], say: Callable[[str], None]) -> "FlareLink":
        """The link of a coordinator to ``sites``."""
        if settings.flare is None:
            raise PipelineError("'flare.server' and 'flare.admin' are missing")
        return FlareLink(
            settings.flare.server,
            settings.flare.admin,
            sites,
            wait_seconds=settings.wait_seconds,
            answer_seconds=settings.answer_seconds,
            say=say,
        )

    def connected(self) -> list[str]:
        """The sites whose jobs run."""
        return [site for site in self._sites if self._relay is not None and site not in self._lost]

    def ask(
        self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
    ) -> Iterator[tuple[str, bytes]]:
        """Asks sites, and yields their answers as they arrive; ``lost`` is not called, for the job ends with a site.

        Raises:
          WorkersLostError: A site is lost, or did not answer for too long, or the job has ended.
        """
        if self._relay is None:
            raise WorkersLostError("NVIDIA FLARE's job does not run")
        number, left, asked_at = next(self._numbers), set(questions), time.monotonic()
        try:
            for name, question in questions.items():
                self._relay.send(LocalMessage(Kind.QUESTION, number, name, question))
        except OSError:
            pass  # the job has ended; why is among what has arrived
        while left:
            for name in sorted(left & self._lost.keys()):
                raise WorkersLostError(f"{name} is lost: {self._lost[name]}")
            try:
                message = self._arrived.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() - asked_at > self._answer_seconds:
                    names = ", ".join(sorted(left))
                    raise WorkersLostError(f"no answer of {names} within {self._answer_seconds:g} s") from None
                continue
            if isinstance(message, PipelineError):
                raise WorkersLostError(f"the relay sent {message}")
            if message is None:
                self._arrived.put(None)  # for the next question
                raise WorkersLostError(f"NVIDIA FLARE's job has ended ({self._reason()}): start this training again")
            if message.kind == Kind.LOST and message.number in (0, number):
                raise WorkersLostError(f"{message.site} is lost: {message.content.decode(errors='replace')}")
            if message.kind == Kind.ANSWER and message.number == number and message.site in left:
                left.discard(message.site)
                yield message.site, message.content

    def __enter__(self) -> "FlareLink":
        with ExitStack() as stack:
            folder = kits.coordinator_socket(self._server).parent
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                stack.enter_context(locked_file(folder / "coordinator.lock", _PATIENCE_SECONDS))
            except LockTaken:
                raise PipelineError(f"another coordinator runs with the kit {self._server}") from None
            listening = stack.enter_context(listen(kits.coordinator_socket(self._server)))
            run = secrets.token_hex(16)
            write_job(folder / "job", self._sites, run)
            self._start_session(stack, folder)
            self._relay = self._accepted(listening, run)
            stack.callback(self._relay.close)
            threading.Thread(target=self._read, args=(self._relay,), daemon=True).start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._relay = None

    def _start_session(self, stack: ExitStack, folder: Path) -> None:
        """A process that submits the job."""
        command = [sys.executable, "-m", "fedpipe.links.flare.session", str(self._admin), str(folder / "job")]
        log = stack.enter_context((folder / "session.log").open("wb"))
        session = subprocess.Popen(
            [*command, str(self._wait_seconds), *self._sites],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,  # Ctrl-C is not for it: it has a job to end
        )

        def end() -> None:
            session.stdin.close()  # type: ignore[union-attr]
            try:
                session.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                session.kill()
                session.wait()

        def read() -> None:
            for line in session.stdout:  # type: ignore[union-attr]
                self._lines.put(json.loads(line))
            self._lines.put({"error": f"its session has ended (see {folder / 'session.log'})"})

        stack.callback(end)
        threading.Thread(target=read, daemon=True).start()

    def _accepted(self, listening: Any, run: str) -> LocalSocket:
        """The connection of the job's relay, when all sites are there and the job runs."""
        listening.settimeout(_LOOK_SECONDS)
        until, absent = time.monotonic() + self._wait_seconds, list[str]()
        while True:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                pass
            else:
                connection.settimeout(_LOOK_SECONDS)
                relay = LocalSocket(connection)
                if relay.is_of_this_user() and _is_hello(relay, run):
                    connection.settimeout(None)
                    return relay
                relay.close()
            while not self._lines.empty():
                line = self._lines.get()
                if "absent" in line:
                    absent = line["absent"]
                    if absent:
                        self._say(f"waits for {', '.join(absent)}, not connected to NVIDIA FLARE's server")
                elif "submitted" in line:
                    self._say(f"NVIDIA FLARE's job {line['submitted']} is submitted")
                    until = time.monotonic() + _START_SECONDS
                else:
                    raise PipelineError(f"NVIDIA FLARE does not run the job: {line.get('error') or line.get('over')}")
            if time.monotonic() > until:
                if absent:
                    raise PipelineError(
                        f"{', '.join(absent)} did not connect to NVIDIA FLARE's server in {self._wait_seconds:g} s"
                    )
                raise PipelineError(f"NVIDIA FLARE did not start the job (see {self._server / 'log.txt'})")

    def _read(self, relay: LocalSocket) -> None:
        try:
            while True:
                message = relay.receive(self._largest)
                if message.kind == Kind.LOST and message.number == 0:
                    self._lost[message.site] = message.content.decode(errors="replace")
                self._arrived.put(message)
        except PipelineError as error:
            self._arrived.put(error)
            relay.close()
        except (OSError, EOFError):
            pass
        self._arrived.put(None)

    def _reason(self) -> str:
        """The session's report on the ended job."""
        until = time.monotonic() + _LOOK_SECONDS * 4
        while time.monotonic() < until:
            try:
                line = self._lines.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if reason := line.get("over") or line.get("error"):
                return str(reason)
        return "its relay is gone"


def _is_hello(relay: LocalSocket, run: str) -> bool:
    """Whether the relay is of this run's job, and not of an earlier one."""
    try:
        hello = relay.receive(len(run))
    except (OSError, EOFError, PipelineError):
        return False
    return hello.kind == Kind.HELLO and hello.content == run.encode()
