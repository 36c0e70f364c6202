"""What a site writes down stays readable, whatever happens to its disk or its power."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation.audit import AnsweredRounds, AuditLog


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """A disk that is full when a file has ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_for_which_the_disk_has_no_room_is_an_error_and_taken_back(tmp_path: Path) -> None:
    log, rounds = AuditLog(tmp_path / "audit.jsonl"), AnsweredRounds(tmp_path / "answered.txt")
    log.write("in", b"question", kind="pass")
    rounds.add("a", "0", "1")
    written = [(file, file.read_bytes()) for file in sorted(tmp_path.iterdir())]
    with (
        no_file_beyond(len(written[1][1]) + 20),
        pytest.raises(PipelineError, match=r"audit.jsonl cannot be written \("),
    ):
        log.write("out", b"answer", kind="pass")
    with no_file_beyond(len(written[0][1]) + 3), pytest.raises(PipelineError, match=r"answered.txt cannot be written"):
        rounds.add("a", "0", "2")
    assert [(file, file.read_bytes()) for file, _ in written] == written and rounds.count() == 1
    rounds.add("a", "0", "2")
    assert rounds.count() == AnsweredRounds(tmp_path / "answered.txt").count() == 2


def test_a_line_that_a_power_cut_tore_does_not_lock_the_site_out(tmp_path: Path) -> None:
    log, answered = tmp_path / "audit.jsonl", tmp_path / "answered.txt"
    AuditLog(log).write("in", b"question", kind="pass")
    AnsweredRounds(answered).add("a", "0", "1")
    for file in (log, answered):
        with file.open("a") as output:
            output.write('{"at": "20')
    AuditLog(log).write("out", b"answer", kind="pass")
    AnsweredRounds(answered).add("a", "1", "2")
    assert [json.loads(line)["way"] for line in log.read_text().splitlines()] == ["in", "out"]
    assert answered.read_text() == "a 0 1\na 1 2\n"
