"""What a site writes down of a federation: each question and answer with size and digest, and the rounds it answered.

A line that cannot be written whole is taken back, and its answer does not leave.
"""

import datetime
import errno
import hashlib
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from fedpipe.errors import PipelineError


class AuditLog:
    """JSON lines, one per question and one per answer; a line is on the disk before its answer leaves."""

    def __init__(self, file: Path) -> None:
        self._file = file
        _cut_torn_line(file)

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
        _append(self._file, json.dumps(line))


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
        _cut_torn_line(file)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = [tuple(line.split(" ")) for line in text.splitlines()]
        if any(len(line) != 3 for line in lines):
            raise PipelineError(f"{file} is damaged: it counts the rounds that this site has answered; restore it")
        self._answered = set(lines)

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
            _append(self._file, f"{training} {number} {digest}")
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


def _append(file: Path, line: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as output:
            end = os.fstat(output.fileno()).st_size
            content = (line + "\n").encode()
            try:
                if output.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(output.fileno())
            except OSError:
                output.truncate(end)
                raise
    except OSError as error:
        raise PipelineError(
            f"{file} cannot be written ({error.strerror}), and without it the site answers nothing: make room there"
        ) from None


def _cut_torn_line(file: Path) -> None:
    """Takes away a last line that was not written whole, for instance when the power failed; its answer never left."""
    if file.exists() and (content := file.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)
