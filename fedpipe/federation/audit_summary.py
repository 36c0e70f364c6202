"""What an audit log says, for a person: whether it is whole, and of each training who asked for what, and what left."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedpipe.errors import PipelineError
from fedpipe.federation.audit import chained


@dataclass
class TrainingSummary:
    """The lines of one training, or of questions that belong to none."""

    name: str
    first: str = ""  # the time of its first line, and of its last
    last: str = ""
    choices: str = ""
    questions: Counter[str] = field(default_factory=Counter)  # by kind
    bytes_in: int = 0
    bytes_out: int = 0
    passes: dict[str, set[str]] = field(default_factory=dict)  # SHA-256 of the questions for sums, by process and pass
    sums: int = 0  # that left, repeated ones too
    clients: set[int] = field(default_factory=set)  # in sums that left
    unknown_clients: bool = False  # whether some lines have only a digest of them
    smallest: int | None = None  # clients of the smallest sum that left
    refusals: Counter[str] = field(default_factory=Counter)
    question: dict[str, Any] = field(default_factory=dict)  # the last question that has clients

    @property
    def rounds(self) -> int:
        """As a policy counts them."""
        return max(map(len, self.passes.values()), default=0)

    def lines(self) -> Iterator[str]:
        """For a person."""
        of = f"training {self.name}" if self.name else "without a training"
        yield f"{of}: {self.choices}" if self.choices else of
        yield f"  from {self.first} to {self.last}"
        questions = ", ".join(f"{count} {kind}" for kind, count in sorted(self.questions.items()))
        yield f"  questions: {questions}; {self.bytes_in:,} bytes in, {self.bytes_out:,} bytes out"
        if self.sums:
            more = " and those of which the log has only a digest" if self.unknown_clients else ""
            yield f"  rounds: {self.rounds}; sums that left: {self.sums}, of {self.smallest} clients at least"
            yield f"  clients in them: {len(self.clients)}{more}"
        for reason, count in sorted(self.refusals.items()):
            yield f"  refused {count} {'time' if count == 1 else 'times'}: {reason}"


def read_audit(file: Path, noted: str = "") -> tuple[list[TrainingSummary], str]:
    """The summaries of a log in the order of their first lines, and the ``chain`` of its last line.

    Args:
      file: The log.
      noted: The beginning of the chain of a line that it once had; empty for none.

    Raises:
      PipelineError: It is missing, or a line was changed or removed; the message names the first one.
    """
    if not file.exists():
        raise PipelineError(f"{file} is missing: nothing was answered yet, or the logs are elsewhere (--logs)")
    summaries: dict[str, TrainingSummary] = {}
    chain, question, has_noted = "", dict[str, Any](), not noted
    for number, line in enumerate(_lines(file), 1):
        claimed = line.pop("chain", None)
        chain = chained(chain, line)
        if claimed != chain:
            raise PipelineError(
                f"{file}: line {number} was changed, or lines before it were changed or removed: compare it with a copy"
            )
        has_noted = has_noted or chain.startswith(noted)
        if line["way"] == "in":
            question = line
        name = str(question.get("training", ""))
        _add(summaries.setdefault(name, TrainingSummary(name)), line, question)
    if not has_noted:
        raise PipelineError(f"{file} has no line with the chain {noted}: lines at its end were removed")
    return list(summaries.values()), chain


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or not {"at", "way", "bytes", "sha256"} <= line.keys():
                    raise ValueError("it has no way")
            except ValueError:
                raise PipelineError(f"{file}: line {number} is none of an audit log") from None
            yield line


def _add(summary: TrainingSummary, line: dict[str, Any], question: dict[str, Any]) -> None:
    """Counts a line; ``question`` is the last question, which an answer is to."""
    summary.first, summary.last = summary.first or line["at"], line["at"]
    if line["way"] == "in":
        summary.bytes_in += line["bytes"]
        summary.questions[str(line.get("kind"))] += 1
        # A site that was started again gets the clients again with a later step.
        if line.get("chunks") and (line.get("step", "keys") == "keys" or not summary.question):
            summary.question = line
        if isinstance(settings := line.get("settings"), dict):
            summary.choices = ", ".join(str(settings.get(key)) for key in ("algorithm", "aggregator", "model"))
        return
    summary.bytes_out += line["bytes"]
    if "refused" in line:
        summary.refusals[str(line["refused"])] += 1
    elif not line.get("unknown") and _brings_sum(question) and summary.question:
        clients_question = summary.question
        # The chunks of a secure sum leave together.
        is_secure = clients_question.get("kind") == "secure"
        name = "secure" if is_secure else f"{clients_question['process']} {clients_question['number']}"
        summary.passes.setdefault(name, set()).add(clients_question["sha256"])
        sizes = [sum(groups) for groups in clients_question["chunks"]]
        sizes = [sum(sizes)] if is_secure else sizes
        summary.sums += len(sizes)
        summary.smallest = min([*sizes, *([] if summary.smallest is None else [summary.smallest])])
        for text in clients_question["clients"]:
            _add_clients(summary, text)


def _brings_sum(question: dict[str, Any]) -> bool:
    """Whether sums leave with the answer: of a secure one's steps with one only, which earlier logs do not name."""
    return question["step"] == "mask" if "step" in question else bool(question.get("chunks"))


def _add_clients(summary: TrainingSummary, text: str) -> None:
    """Adds the clients of a sum, as `audit.spans` has them."""
    if " " in text or text == "unreadable":
        summary.unknown_clients = True
        return
    for run in text.split(","):
        start, _, end = run.partition("-")
        summary.clients.update(range(int(start), int(end or start) + 1))
