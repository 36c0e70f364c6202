"""A site as the coordinator of the gRPC link sees it."""

import threading
import time
from collections.abc import Callable, Iterator


class Line:
    """A site as the coordinator sees it: the question for it, and its stream while it is connected."""

    def __init__(self, name: str, reconnect_seconds: float) -> None:
        self.name = name
        self.is_connected = False
        self.left_at = 0.0  # when it was connected last, of time.monotonic
        self._reconnect_seconds, self._opened_at = reconnect_seconds, float("-inf")
        self._changed = threading.Condition()
        self._end_stream: Callable[[], object] = lambda: None
        self._question: tuple[int, bytes] | None = None
        self._stream = 0  # the newest one
        self._unanswered: set[int] = set()  # numbers of questions that went out on it; of some the answer is too late
        self._ended = False

    def put(self, number: int, content: bytes) -> None:
        """A question for the site."""
        with self._changed:
            self._question = number, content
            self._changed.notify_all()

    def clear(self) -> None:
        """There is no question any more."""
        with self._changed:
            self._question = None

    def open(self, end: Callable[[], object]) -> int:
        """The number of a new stream, which ends an older one; 0 if that comes too soon.

        Args:
          end: Ends it, also while a frame waits for a site that reads none.
        """
        with self._changed:
            now = time.monotonic()
            if now - self._opened_at < self._reconnect_seconds:
                return 0
            self._opened_at, self.is_connected = now, True
            self._stream += 1
            self._unanswered.clear()
            self._changed.notify_all()
            end_older, self._end_stream = self._end_stream, end
            stream = self._stream
        end_older()
        return stream

    def close(self, stream: int) -> None:
        """A stream has ended."""
        with self._changed:
            if self._stream == stream and self.is_connected:
                self.is_connected, self.left_at = False, time.monotonic()
                self._changed.notify_all()

    def cut(self) -> None:
        """Ends the stream; the site may open another one."""
        with self._changed:
            stream, end_stream = self._stream, self._end_stream
        self.close(stream)
        end_stream()

    def end(self) -> None:
        """Ends the stream for good."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def number(self, stream: int) -> int:
        """The number of the question whose answer is waited for on a stream; -1 if there is none."""
        with self._changed:
            return self._question[0] if self._question is not None and self._is_current(stream) else -1

    def expects(self, stream: int, number: int) -> bool:
        """Whether an answer to a question may come on a stream: each one once, also when it is too late."""
        with self._changed:
            return self._is_current(stream) and number in self._unanswered

    def received(self, stream: int, number: int) -> None:
        """An answer has come."""
        with self._changed:
            if self._stream == stream:
                self._unanswered.discard(number)

    def questions(self, stream: int) -> Iterator[tuple[int, bytes]]:
        """The questions for a stream, as long as it is the newest and open."""
        sent = 0
        while True:
            with self._changed:
                while self._is_current(stream) and (self._question is None or self._question[0] == sent):
                    self._changed.wait()
                if not self._is_current(stream) or self._question is None:
                    return
                question = self._question
                self._unanswered.add(question[0])
            sent = question[0]
            yield question

    def _is_current(self, stream: int) -> bool:
        return self._stream == stream and self.is_connected and not self._ended
