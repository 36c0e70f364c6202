"""What a site writes down stays readable, whatever happens to its disk or its power."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation.audit import (
    AnsweredMessages,
    AnsweredRounds,
    AuditLog,
    digest_of_message,
    digest_of_requests,
    spans,
)
from fedpipe.federation.audit_summary import TrainingSummary, read_audit
from fedpipe.learning.work_request import WorkRequest


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


def log_of_a_training(file: Path) -> AuditLog:
    """Two rounds of a training, the second one asked twice, and a question that is refused."""
    log = AuditLog(file)
    settings = {"algorithm": "fed_avg", "aggregator": "mean", "model": "mcmahan_2nn"}
    log.write("in", b"join", kind="join", training="a" * 16, settings=settings)
    log.write("out", b"yes", kind="join")
    about = {"training": "a" * 16, "process": "training", "number": 0, "chunks": [[2], [1, 2]]}
    for question, clients in ((b"1", ["0-1", "4-6"]), (b"2", ["0,3", "4-6"]), (b"2", ["0,3", "4-6"])):
        log.write("in", question, kind="pass", **about, clients=clients)
        log.write("out", b"sums" * 10, kind="pass")
    log.write("in", b"3", kind="pass", **about, clients=["7-8", "9-11"])
    log.write("out", b"no", kind="pass", refused="its policy wants 5 clients")
    return log


def test_a_summary_has_rounds_clients_bytes_and_refusals(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log_of_a_training(file)
    (summary,), _ = read_audit(file)
    assert summary.rounds == 2 and summary.sums == 6 and summary.smallest == 2
    assert summary.clients == {0, 1, 3, 4, 5, 6} and summary.bytes_out == 3 + 3 * 40 + 2
    text = "\n".join(summary.lines())
    assert f"training {'a' * 16}: fed_avg, mean, mcmahan_2nn" in text and "questions: 1 join, 4 pass" in text
    assert "refused 1 time: its policy wants 5 clients" in text and "clients in them: 6" in text


def test_a_secure_sum_is_one_whose_later_steps_are_no_others(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    whole = {"chunks": [[2], [3, 1]], "clients": ["0-1", "4-7"]}

    def add(step: str, fields: dict[str, Any], **answer: Any) -> TrainingSummary:
        log.write("in", step.encode(), kind="secure", training="a" * 16, step=step, **{"chunks": []} | fields)
        log.write("out", b"answer", kind="secure", **answer)
        (summary,), _ = read_audit(tmp_path / "audit.jsonl")
        return summary

    for step, fields in ("keys", {"chunks": [[1]], "clients": ["9"]}), ("keys", whole), ("share", {}):
        assert add(step, fields).sums == 0  # nothing but keys has left, and of the first attempt never more
    for answer in {"unknown": True}, {"refused": "its policy wants 5 clients"}:
        assert add("mask", {}, **answer).sums == 0
    for step, fields in ("mask", whole), ("agree", {}), ("reveal", {}):
        summary = add(step, fields)
        assert (summary.rounds, summary.sums, summary.smallest, len(summary.clients)) == (1, 1, 6, 6)


@pytest.mark.parametrize("way", ["removed", "changed", "moved"])
def test_a_line_that_was_changed_or_removed_is_noticed(tmp_path: Path, way: str) -> None:
    file = tmp_path / "audit.jsonl"
    log_of_a_training(file)
    lines = file.read_text().splitlines()
    if way == "removed":
        del lines[4:6]
    elif way == "changed":
        lines[4] = lines[4].replace("0,3", "0-9")
    else:
        lines[4:8] = [*lines[6:8], *lines[4:6]]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(PipelineError, match=r"audit.jsonl: line 5 was changed, or lines before it"):
        read_audit(file)


def test_the_chain_goes_on_after_a_restart_and_a_torn_line_and_shows_a_cut_end(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log_of_a_training(file)
    _, noted = read_audit(file)
    with file.open("a") as output:
        output.write('{"at": "20')
    AuditLog(file).write("in", b"4", kind="describe")
    assert read_audit(file, noted[:16])[1] != noted
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(PipelineError, match=f"no line with the chain {noted[:16]}: lines at its end were removed"):
        read_audit(file, noted[:16])
    file.write_text("none\n")
    with pytest.raises(PipelineError, match="line 1 is none of an audit log"):
        read_audit(file)


def test_clients_are_listed_in_runs_and_very_many_by_their_digest() -> None:
    assert spans(WorkRequest.of([0, 1, 2, 5, 7, 8]).pack()) == "0-2,5,7-8"
    assert spans(WorkRequest.of(np.arange(0, 9000, 2)).pack()).startswith("4500 clients ")
    assert spans(np.zeros(3, np.int32)) == spans(np.zeros((2, 4))) == "unreadable"


def test_a_message_is_not_answered_over_others_after_a_restart(tmp_path: Path) -> None:
    file, leaves = tmp_path / "messages.txt", [np.ones(3, np.float32)]
    message = digest_of_message("training", leaves)

    def digest(clients: list[int], sizes: list[list[int]] | None = None, **work: int) -> str:
        return digest_of_requests(sizes or [[len(clients)]], [WorkRequest.of(clients, **work).pack()])

    answered = AnsweredMessages(file)
    answered.require_same(message, digest([1, 2, 3]))
    answered.add(message, digest([1, 2, 3]))
    for memory in (answered, AnsweredMessages(file)):
        memory.require_same(message, digest([1, 2, 3]))
        memory.require_same(digest_of_message("training", [leaves[0] * 2]), digest([1, 2]))
        for other in (digest([1, 2]), digest([1, 2, 3], work=10), digest([1, 2, 3], [[1, 2]])):
            with pytest.raises(PipelineError, match="answered the same message over other clients"):
                memory.require_same(message, other)
    file.write_text("half\n")
    with pytest.raises(PipelineError, match="is damaged"):
        AnsweredMessages(file)
