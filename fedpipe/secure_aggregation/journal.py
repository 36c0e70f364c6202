"""A site's lasting state, on its disk before an answer leaves.

    journal/
      history     for ever: attempts begun, rounds revealed, and in which set of sites a model was answered
      attempt     steps of the present attempt with their secrets and answers; erased when it is over
      answer      the last answer of the last attempt, in case it was lost on the way

A journal belongs to an identity, not to a training: a model is the same model in another training. One process at a
time has it open.
"""

from dataclasses import dataclass
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.secure_aggregation.coordinator_messages import Begin
from fedpipe.secure_aggregation.encoding import Reader, Writer
from fedpipe.secure_aggregation.record_file import RecordFile
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.system.locks import try_lock

_BEGUN, _REVEALED = 1, 2
_DIGEST, _NUMBER = 32, 4


@dataclass(frozen=True, repr=False)
class StepRecord:
    """One step of an attempt.

    Attributes:
      step: From 1 on.
      request: The message that was answered.
      secret: The state that the next steps need and no message holds.
      answer: The message that was sent.
    """

    step: int
    request: bytes
    secret: bytes
    answer: bytes

    def parts(self) -> tuple[bytes, bytes]:
        """As a record: what is before the answer, which can be large, and the answer."""
        writer = Writer().number(self.step, 1).sized(self.request).sized(self.secret)
        return writer.number(len(self.answer), 8).done(), self.answer

    @classmethod
    def decode(cls, data: bytes) -> "StepRecord":
        """From a record."""
        reader = Reader(data, "a step in the journal")
        record = cls(reader.number(1), reader.sized(), reader.sized(), reader.sized())
        reader.end()
        return record


@dataclass(frozen=True)
class Revelation:
    """That a site has revealed shares: the only time in this round, and for this model in no other set of sites.

    Attributes:
      training: 32 bytes.
      round_number: From 1 on.
      attempt: From 0 on.
      model: Digest of the model, 32 bytes.
      sites: Digest of the survivors' identities, 32 bytes.
      request: Digest of the message that was answered, 32 bytes.
    """

    training: bytes
    round_number: int
    attempt: int
    model: bytes
    sites: bytes
    request: bytes


class SiteJournal:
    """A site's journal in a folder.

    Attributes:
      steps: Of the present attempt, by step.
      last: The last step of the last attempt; None if there is none.
    """

    def __init__(self, folder: Path) -> None:
        """Opens the journal, or makes an empty one.

        Raises:
          PipelineError: Another process has it open, or a file of it is damaged.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        if not try_lock(self._lock):
            raise PipelineError(f"{folder} is in use: another process takes part with this journal")
        self._history, self._attempt = RecordFile(folder / "history"), RecordFile(folder / "attempt")
        self._answer = RecordFile(folder / "answer")
        self._begun: set[tuple[bytes, int, int]] = set()
        self._revealed: dict[tuple[bytes, int], Revelation] = {}
        self._models: dict[bytes, Revelation] = {}
        for record in self._history.records:
            self._remember(record)
        steps = [StepRecord.decode(record) for record in self._attempt.records]
        self.steps = {record.step: record for record in steps}
        answers = [StepRecord.decode(record) for record in self._answer.records]
        self.last = answers[-1] if answers else None

    def close(self) -> None:
        """Lets another process open it."""
        self._lock.close()

    def begin(self, begin: Begin) -> None:
        """Notes a new attempt, and erases the secrets of the one before.

        Raises:
          Refused: The attempt was begun before, or the round revealed.
        """
        name = (begin.training, begin.round_number, begin.attempt)
        if name in self._begun:
            raise Refused(f"attempt {begin.attempt} of round {begin.round_number} was begun before: begin another one")
        if (begin.training, begin.round_number) in self._revealed:
            raise Refused(f"round {begin.round_number} was revealed before, and a round has one sum")
        self.erase()
        writer = Writer().number(_BEGUN, 1).fixed(begin.training)
        self._append(writer.number(begin.round_number, _NUMBER).number(begin.attempt, _NUMBER).done())

    def add(self, record: StepRecord) -> None:
        """Notes a step with its answer."""
        self._attempt.append(*record.parts())
        self.steps[record.step] = record

    def require_same_sites(self, begin: Begin, sites: bytes, repeatable: bool) -> None:
        """Raises Refused if the model was answered in another set of sites; with ``repeatable`` off, if ever."""
        former = self._models.get(begin.model)
        here = (begin.training, begin.round_number)
        if former is None or (former.training, former.round_number) == here:
            return
        if former.sites != sites:
            raise Refused(
                "this model was answered in another set of sites: the two sums differ by the updates of some sites. "
                "Train with another seed"
            )
        if not repeatable:
            raise Refused("this model was answered before, and another sum would average its noise away")

    def reveal(self, revelation: Revelation) -> None:
        """Notes that shares are revealed.

        Raises:
          Refused: The round was revealed before, in answer to another message.
        """
        name = (revelation.training, revelation.round_number)
        former = self._revealed.get(name)
        if former is not None and former != revelation:
            raise Refused(f"round {revelation.round_number} was revealed before, and a round has one sum")
        if former is None:
            writer = Writer().number(_REVEALED, 1).fixed(revelation.training)
            writer.number(revelation.round_number, _NUMBER).number(revelation.attempt, _NUMBER)
            self._append(writer.fixed(revelation.model).fixed(revelation.sites).fixed(revelation.request).done())

    def finish(self, record: StepRecord) -> None:
        """Keeps the last answer, and erases the attempt with its secrets."""
        self._answer.erase()
        self._answer.append(*StepRecord(record.step, record.request, b"", record.answer).parts())
        self.last = record
        self._attempt.erase()
        self.steps = {}

    def erase(self) -> None:
        """Erases the present attempt and the last answer."""
        self._attempt.erase()
        self._answer.erase()
        self.steps, self.last = {}, None

    def _append(self, record: bytes) -> None:
        self._history.append(record)
        self._remember(record)

    def _remember(self, record: bytes) -> None:
        reader = Reader(record, "the journal's history")
        kind, training = reader.number(1), reader.fixed(_DIGEST)
        round_number, attempt = reader.number(_NUMBER), reader.number(_NUMBER)
        if kind == _BEGUN:
            self._begun.add((training, round_number, attempt))
        elif kind == _REVEALED:
            digests = (reader.fixed(_DIGEST), reader.fixed(_DIGEST), reader.fixed(_DIGEST))
            revelation = Revelation(training, round_number, attempt, *digests)
            self._revealed[training, round_number] = revelation
            self._models.setdefault(revelation.model, revelation)
        else:
            raise PipelineError(f"{self._history.path} has a record of an unknown kind {kind}")
        reader.end()
