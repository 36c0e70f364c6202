"""A site's end of the gRPC link: it opens a stream to the coordinator and answers on it; it listens nowhere."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from fedpipe.errors import PipelineError
from fedpipe.links.frames import frames, messages
from fedpipe.links.options import COORDINATOR, METHOD, OPTIONS
from fedpipe.system.certificates import FEDERATION, files, soon

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 10.0  # seconds before the next try
_WAITING = 4  # frames of an answer that wait to be sent
_LOOK_SECONDS = 1.0


def stay(
    address: str,
    certificates: Path,
    name: str,
    answer: Callable[[bytes], bytes],
    say: Callable[[str], None],
    ending: threading.Event,
    *,
    largest: int = 2**31 - 1,
    first_pause: float = _FIRST_PAUSE,
) -> None:
    """Answers the coordinator's questions until ``ending`` is set, and connects again whenever the stream ends.

    Args:
      address: host:port of the coordinator.
      certificates: The folder with the site's certificate and the CA's.
      name: Of the site, as in its certificate.
      answer: From a question to an answer; a PipelineError ends the stream, and nothing is sent.
      say: Called with a line when the stream begins and ends.
      ending: Ends it.
      largest: The bytes that a question may have.
      first_pause: Seconds before the first new try; each further one waits longer, up to ten seconds.

    Raises:
      PipelineError: A certificate is missing, or not valid or no longer.
    """
    options = [*OPTIONS, ("grpc.ssl_target_name_override", COORDINATOR)]
    pause, open_calls, warned = first_pause, list[grpc.Call](), ""

    def end() -> None:
        ending.wait()
        for call in open_calls:
            call.cancel()

    threading.Thread(target=end, daemon=True, name="ends-the-stream").start()
    while not ending.is_set():
        replies: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        # Read for each stream: one that was renewed is used, and one that has ended is named.
        ca, certificate, key = (file.read_bytes() for file in files(certificates, name, FEDERATION))
        if (sentence := soon(certificates, name)) != warned:
            say(sentence or "its certificate was renewed")
            warned = sentence
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        with grpc.secure_channel(address, credentials, options) as channel:
            call = channel.stream_stream(METHOD)(iter(replies.get, None))
            open_calls[:] = [call]
            was_asked, why = _answer_all(call, replies, answer, largest) if not ending.is_set() else (False, "")
        pause = first_pause if was_asked else min(2 * pause, _LONGEST_PAUSE)
        if not ending.is_set():
            say(f"{address}: {why}; tries again in {pause:g} s")
            ending.wait(pause)


def _answer_all(
    call: Any, replies: "queue.Queue[bytes | None]", answer: Callable[[bytes], bytes], largest: int
) -> tuple[bool, str]:
    """Answers until the stream ends; returns whether there was a question, and why it ended."""
    was_asked = False
    try:
        for number, question in messages(call, largest):
            was_asked = True
            try:
                content = answer(question)
            except PipelineError as error:  # the site's own; nothing leaves
                return was_asked, str(error)
            for frame in frames(number, content):
                while call.is_active() and not _put(replies, frame):
                    pass
        return was_asked, "the coordinator has ended"
    except grpc.RpcError as error:
        return was_asked, str(error.details()) if isinstance(error, grpc.Call) else str(error)
    except PipelineError as error:
        return was_asked, f"the coordinator sent {error}"
    finally:
        call.cancel()
        while not _put(replies, None):
            with suppress(queue.Empty):
                replies.get_nowait()


def _put(replies: "queue.Queue[bytes | None]", frame: bytes | None) -> bool:
    """Whether there was room for a frame within a second."""
    try:
        replies.put(frame, timeout=_LOOK_SECONDS)
    except queue.Full:
        return False
    return True
