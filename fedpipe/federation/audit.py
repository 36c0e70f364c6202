"""A site's own record of a federation: its audit log, the rounds that it answered, and over whom.

A line that cannot be written whole is taken back, and its answer does not leave (journal.py).
"""

import datetime
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.federation.journal import append_line, cut_torn_line, last_line

AUDIT_LOG = "audit.jsonl"  # its name in the folder of logs
_LONGEST = 10_000  # characters of the clients of a sum


class AuditLog:
    """JSON lines, one per question and one per answer; a line is on the disk before its answer leaves.

    The last field of a line, ``chain``, is a SHA-256 over that of the line before and the rest of the line. So a line
    that is changed or removed is noticed (audit_summary.py), unless all lines after it go, too.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        cut_torn_line(file)
        try:
            self._chain = str(json.loads(last_line(file) or "{}").get("chain", ""))
        except (ValueError, AttributeError):  # not fedpipe's; `python -m operations.federation audit` says which line
            self._chain = ""

    def write(self, way: str, content: bytes, **details: Any) -> None:
        """Adds a line.

        Args:
          way: ``in`` or ``out``.
          content: The message, of which bytes and SHA-256 are noted.
          details: Further fields.

        Raises:
          PipelineError: The line cannot be written.
        """
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "way": way, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | details
        chain = chained(self._chain, line)
        append_line(self._file, json.dumps(line | {"chain": chain}))
        self._chain = chain


def chained(before: str, line: dict[str, Any]) -> str:
    """The ``chain`` of a line (without it), after the line whose chain is ``before``."""
    return hashlib.sha256((before + json.dumps(line)).encode()).hexdigest()


def spans(requests: np.ndarray) -> str:
    """The ids of the clients of some requests, int32 [n, 4], as ``0-4,7``; of very many only number and SHA-256.

    Anything may be in a question, so another array has a text, too.
    """
    if requests.ndim != 2 or requests.dtype != np.int32 or not requests.size:
        return "unreadable"
    ids = np.unique(requests[:, 0])
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    text = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return text if len(text) <= _LONGEST else f"{len(ids)} clients {hashlib.sha256(text.encode()).hexdigest()}"


class AnsweredRounds:
    """The questions for sums that a site has answered, by digest; a question that is repeated counts once.

    A line of the file: training, process and pass, digest.
    """

    def __init__(self, file: Path) -> None:
        """Reads ``file``.

        Raises:
          PipelineError: It is damaged.
        """
        self._file = file
        self._answered = {(training, number, digest) for training, number, digest in _words(file, 3)}

    def count(self, but: str = "") -> int:
        """How many rounds the site has answered, those of the training ``but`` excepted; of passes the most count."""
        by_pass: dict[str, Counter[str]] = defaultdict(Counter)
        for training, number, _ in self._answered:
            by_pass[training][number] += 1
        return sum(max(numbers.values()) for training, numbers in by_pass.items() if training != but)

    def add(self, training: str, number: str, digest: str) -> None:
        """Notes a question.

        Raises:
          PipelineError: The line cannot be written.
        """
        if (training, number, digest) not in self._answered:
            append_line(self._file, f"{training} {number} {digest}")
            self._answered.add((training, number, digest))

    def with_question(self, training: str, number: str, digest: str) -> int:
        """What `count` would be with this question."""
        if (training, number, digest) in self._answered:
            return self.count()
        self._answered.add((training, number, digest))
        try:
            return self.count()
        finally:
            self._answered.remove((training, number, digest))


class AnsweredMessages:
    """Over which clients the site has answered each message, by digests.

    The sums of one model over two sets of clients differ by those clients that are in one of them: their updates.
    """

    def __init__(self, file: Path) -> None:
        """Reads ``file``.

        Raises:
          PipelineError: It is damaged.
        """
        self._file = file
        self._requests = dict(_words(file, 2))

    def require_same(self, message: str, requests: str) -> None:
        """Checks that a message was not answered over other ``requests``; both are digests.

        Raises:
          PipelineError: It was.
        """
        if self._requests.get(message, requests) != requests:
            raise PipelineError(
                "it has answered the same message over other clients, or for other work of theirs, and the difference "
                "of the two sums would be the updates of few clients: train with another seed, or with other first "
                "weights"
            )

    def add(self, message: str, requests: str) -> None:
        """Notes an answer.

        Raises:
          PipelineError: The line cannot be written.
        """
        if message not in self._requests:
            append_line(self._file, f"{message} {requests}")
            self._requests[message] = requests


def _words(file: Path, count: int) -> list[list[str]]:
    """The words of each line; none if there is no file.

    Raises:
      PipelineError: A line has not ``count`` words.
    """
    cut_torn_line(file)
    lines = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    if any(len(line) != count for line in lines):
        raise PipelineError(f"{file} is damaged: it holds the questions that this site has answered; restore it")
    return lines


def digest_of_message(process: str, leaves: Sequence[np.ndarray]) -> str:
    """Of the arrays that clients of a ``process`` get."""
    return _digest(process, leaves)


def digest_of_requests(whose: Sequence[Any], chunks: Sequence[np.ndarray]) -> str:
    """Of clients and their work: what says whose samples they have, as JSON, and int32 [n, 4] requests by chunk."""
    return _digest(json.dumps(whose), chunks)


def _digest(head: str, arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256(head.encode())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
