"""The coordinator's side of a round: five phases, one for each step of the sites.

    coordinator = Coordinator(setting, begin, folder)
    while coordinator.phase is not Phase.DONE:
        for site, message in coordinator.requests().items(): ...    # send; a site that is slow may get it again
        ... coordinator.receive(site, answer)                       # as answers arrive
        coordinator.close()                                         # whoever has not answered has dropped out
    coordinator.result()

A phase's result is on the disk before the next one's messages leave, so that a killed coordinator resumes with
the same messages, which sites answer with the same bytes.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from fedpipe.errors import PipelineError
from fedpipe.secure_aggregation import agreement
from fedpipe.secure_aggregation.coordinator_messages import (
    Agreements,
    AllKeys,
    Begin,
    Delivery,
    Survivors,
    largest,
)
from fedpipe.secure_aggregation.encoding import Reader, Writer
from fedpipe.secure_aggregation.message import Message, SiteMessage
from fedpipe.secure_aggregation.record_file import RecordFile
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site_messages import Agreement, Letter, Letters, Masked, Revealed, RoundKeys
from fedpipe.secure_aggregation.unmasking import Round
from fedpipe.secure_aggregation.vector import Vector


class Phase(IntEnum):
    """Which answers are awaited."""

    KEYS = 1
    SHARE = 2
    MASK = 3
    AGREE = 4
    REVEAL = 5
    DONE = 6


ANSWERS: dict[Phase, type[SiteMessage]] = {
    Phase.KEYS: RoundKeys,
    Phase.SHARE: Letters,
    Phase.MASK: Masked,
    Phase.AGREE: Agreement,
    Phase.REVEAL: Revealed,
}
_SITE, _COUNT = 2, 2  # bytes in the journal


class Coordinator:
    """One attempt of a round.

    Attributes:
      setting: Of the training.
      begin: The attempt.
      phase: The present one.
      survivors: Whose vectors are in the sum; empty before the masked vectors came.
    """

    def __init__(self, setting: Setting, begin: Begin, file: Path) -> None:
        """Begins an attempt, or resumes the one that ``file`` holds.

        Args:
          setting: Of the training.
          begin: The attempt; every further one needs another number.
          file: The attempt's journal. Its folder must exist. It holds no site's secret, and can be removed when the
            sum is in use.

        Raises:
          PipelineError: The file is damaged, or of another attempt.
        """
        self.setting, self.begin, self.phase = setting, begin, Phase.KEYS
        self.survivors: frozenset[int] = frozenset()
        self._total = Vector.zeros(setting.bits, setting.length, setting.quantities)
        self._came: dict[int, SiteMessage] = {}  # in this phase
        self._keys: dict[int, RoundKeys] = {}
        self._letters: dict[int, Letters] = {}
        self._agreements: dict[int, Agreement] = {}
        self._round: Round | None = None
        self._agreed = b""  # what survivors sign
        self._journal = RecordFile(file)
        if not self._journal.records:
            self._journal.append(begin.encode())
        elif self._journal.records[0] != begin.encode():
            raise PipelineError(f"{file} is the journal of another attempt: choose another file or attempt")
        for record in self._journal.records[1:]:
            self._resume(record)

    @property
    def waiting(self) -> set[int]:
        """The sites whose answer in this phase has not come."""
        return self._expected() - self._came.keys()

    def requests(self) -> dict[int, bytes]:
        """The phase's message for each site that takes part in it."""
        context, sites = self.begin.context, sorted(self._expected())
        if self.phase == Phase.MASK:
            letters = self._letters_to()
            return {site: Delivery(context, site, tuple(letters[site])).encode() for site in sites}
        messages: dict[Phase, Message] = {
            Phase.KEYS: self.begin,
            Phase.SHARE: AllKeys(context, _ascending(self._keys)),
            Phase.AGREE: Survivors(context, tuple(sorted(self.survivors))),
            Phase.REVEAL: Agreements(context, _ascending(self._agreements)),
        }
        return dict.fromkeys(sites, messages[self.phase].encode()) if sites else {}

    def largest_answer(self) -> int:
        """Bytes that an answer of this phase can have, for the transport to refuse larger ones unread."""
        return largest(ANSWERS[self.phase], self.setting)

    def receive(self, site: int, answer: bytes) -> bool:
        """Takes the answer of the site that the transport has authenticated as ``site``.

        Returns:
          Whether it was new; the same answer may come again.

        Raises:
          Refused: The answer is late, larger than it can be, malformed, of another site or attempt, wrong, or another
            one than came before. The attempt continues without it; the error's ``site`` is at fault.
        """
        if site not in self._expected():
            raise Refused(f"an answer of site {site} is not awaited", site)
        message = self._decoded(site, answer)
        former = self._came.get(site)
        if former is not None:
            if not isinstance(message, Masked) and former != message:
                raise Refused(f"site {site} sent another answer before", site)
            return False
        if isinstance(message, Masked):
            setting = self.setting
            message.vector.require(setting.bits, setting.length, setting.quantities, site)
            self._total.add(message.vector)
            message = replace(message, vector=_NOTHING)
        else:
            self._require_right(message)
        self._came[site] = message
        return True

    def close(self) -> Phase:
        """Ends the phase with the answers that came, and returns the next phase.

        Raises:
          Refused: They are too few: more may still come, or begin another attempt. Or a member has shared another
            secret than its own, and the round has no sum.
        """
        roster, came = self.setting.roster, self._came
        needed = roster.threshold if self.phase >= Phase.AGREE else roster.minimum
        if self.phase == Phase.DONE or len(came) < needed:
            raise Refused(f"{len(came)} sites answered in phase {self.phase.name.lower()}, and {needed} are needed")
        summed = self._unmasked(came) if self.phase == Phase.REVEAL else self._total
        kept = self._total if self.phase == Phase.MASK else _NOTHING
        writer = Writer().number(self.phase, 1).sized(Masked(self.begin.context, 0, kept).encode())
        writer.number(len(came), _COUNT)
        for site in sorted(came):
            writer.number(site, _SITE).sized(came[site].encode())
        self._journal.append(writer.done())
        self._end(came, summed)
        return self.phase

    def result(self) -> Vector:
        """The sum of the survivors' vectors, the weights modulo 2^bits. Raises Refused if the attempt is not done."""
        if self.phase != Phase.DONE:
            raise Refused("the attempt has no sum yet")
        return self._total.copy()

    def _expected(self) -> set[int]:
        """The sites that take part in this phase."""
        by_phase = (self.setting.roster.sites, self._keys, self._letters, self.survivors, self._agreements, ())
        return set(by_phase[self.phase - 1])

    def _decoded(self, site: int, answer: bytes) -> SiteMessage:
        most = self.largest_answer()
        if len(answer) > most:
            raise Refused(f"site {site} sent {len(answer)} bytes, and at most {most} are possible", site)
        try:
            message = ANSWERS[self.phase].decode(answer)
        except Refused as error:
            raise Refused(f"the answer of site {site} is not acceptable: {error}", site) from None
        if message.context != self.begin.context:
            raise Refused(f"the answer of site {site} is of another attempt, round, model or setting", site)
        if message.site != site:
            raise Refused(f"the answer of site {site} names site {message.site}", site)
        return message

    def _require_right(self, message: SiteMessage) -> None:
        """Raises Refused for an answer that would spoil the round."""
        roster = self.setting.roster
        if isinstance(message, RoundKeys):
            roster.verify(message.site, message.signature, message.context + message.fields)
        elif isinstance(message, Letters):
            if {letter.site for letter in message.letters} != self._keys.keys() - {message.site}:
                raise Refused(f"site {message.site} did not send a letter to each other site", message.site)
        elif isinstance(message, Agreement):
            roster.verify(message.site, message.signature, self._agreed)
        elif isinstance(message, Revealed):
            self._known_round().require_right_shares(message)

    def _letters_to(self) -> dict[int, list[Letter]]:
        """The members' letters by receiver, with their senders in the receiver's place."""
        letters: dict[int, list[Letter]] = {site: [] for site in self._keys}
        for sender in sorted(self._letters):
            for letter in self._letters[sender].letters:
                letters[letter.site].append(Letter(sender, letter.digests, letter.sealed))
        return letters

    def _unmasked(self, came: Mapping[int, SiteMessage]) -> Vector:
        """The sum without masks, from the shares that came."""
        shares = {site: message for site, message in came.items() if isinstance(message, Revealed)}
        total = self._total.copy()
        self._known_round().unmask(total, shares)
        return total

    def _end(self, came: Mapping[int, SiteMessage], total: Vector) -> None:
        """Takes over the answers of the phase and the sum, and enters the next phase."""
        for site, message in came.items():
            if isinstance(message, RoundKeys):
                self._keys[site] = message
            elif isinstance(message, Letters):
                self._letters[site] = message
            elif isinstance(message, Agreement):
                self._agreements[site] = message
        if self.phase == Phase.MASK:
            self.survivors, context = frozenset(came), self.begin.context
            self._round = Round(self.setting, context, self._keys, self._letters, self.survivors)
            self._agreed = agreement.text(context, self._keys, self._letters, self.survivors)
        self.phase, self._came, self._total = Phase(self.phase + 1), {}, total

    def _resume(self, record: bytes) -> None:
        """Ends a phase as the journal has it."""
        reader = Reader(record, "the coordinator's journal")
        if reader.number(1) != self.phase:
            raise PipelineError(f"{self._journal.path} has phases out of turn: move it away and begin another attempt")
        kept = Masked.decode(reader.sized()).vector
        answers = [(reader.number(_SITE), reader.sized()) for _ in range(reader.number(_COUNT))]
        reader.end()
        came = {site: ANSWERS[self.phase].decode(answer) for site, answer in answers}
        total = kept.copy() if self.phase == Phase.MASK else self._total
        self._end(came, self._unmasked(came) if self.phase == Phase.REVEAL else total)

    def _known_round(self) -> Round:
        if self._round is None:
            raise Refused("no masked vectors came")
        return self._round


_NOTHING = Vector.zeros(8, 0, 0)
_M = TypeVar("_M")


def _ascending(messages: Mapping[int, _M]) -> tuple[_M, ...]:
    return tuple(messages[site] for site in sorted(messages))
