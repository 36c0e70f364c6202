"""A site's end of the link through NVIDIA FLARE: it answers the executor in the site's job process, over a Unix socket.

The samples, the policy and the audit log are with this process, and NVIDIA FLARE's processes never see them.
"""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.links.flare import kit as kits
from fedpipe.links.local import Kind, LocalMessage, LocalSocket, listen
from fedpipe.system.locks import LockTaken, locked_file

_LOOK_SECONDS = 0.5
_QUESTION_SECONDS = 60.0  # that a question may take to come
_PATIENCE_SECONDS = 5.0  # how long an earlier process that was killed may take to end


def stay_at_kit(
    kit: Path,
    answer: Callable[[bytes], bytes],
    say: Callable[[str], None],
    ending: threading.Event,
    *,
    largest: int = 2**31 - 1,
) -> None:
    """Answers the coordinator's questions until ``ending`` is set.

    Args:
      kit: The folder of the site's kit.
      answer: From a question to an answer; after a PipelineError nothing is sent.
      say: Called with a line when the first question comes, and when none can be answered.
      ending: Ends it.
      largest: The bytes that a question may have.

    Raises:
      PipelineError: The kit is not safe to use or not a site's, or another process answers with it.
    """
    kits.require_role(kit, "site")
    kits.require_secure(kit)
    path = kits.site_socket(kit)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with locked_file(path.parent / "lock", _PATIENCE_SECONDS), listen(path) as listening:
            listening.settimeout(_LOOK_SECONDS)
            _serve(listening, answer, say, ending, largest)
            path.unlink(missing_ok=True)
    except LockTaken:
        raise PipelineError(f"another process answers with the kit {kit}: end it") from None


def _serve(
    listening: socket.socket,
    answer: Callable[[bytes], bytes],
    say: Callable[[str], None],
    ending: threading.Event,
    largest: int,
) -> None:
    while not ending.is_set():
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        connection.settimeout(_QUESTION_SECONDS)
        peer = LocalSocket(connection)
        try:
            if not peer.is_of_this_user():
                raise PipelineError("NVIDIA FLARE runs as another user: run both as the same")
            question = peer.receive(largest)
            if question.kind != Kind.QUESTION:
                raise PipelineError("a message that is no question")
            content = answer(question.content)
            connection.settimeout(None)
            peer.send(LocalMessage(Kind.ANSWER, question.number, question.site, content))
        except PipelineError as error:
            say(str(error))
        except (OSError, EOFError):
            say("the question was taken back, or its answer not taken")
        finally:
            peer.close()
