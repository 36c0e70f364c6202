"""One organisation's side of a round: five steps, each answered once.

A step takes the bytes that arrived and returns the bytes to send, which are in the journal before. The same bytes again
get the same answer, byte for byte; other bytes for a step that was answered are refused, since a second answer would
use a mask or a key twice.
"""

import hashlib
import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedpipe.secure_aggregation import agreement, keys, shamir
from fedpipe.secure_aggregation.attempt import Attempt
from fedpipe.secure_aggregation.coordinator_messages import Agreements, AllKeys, Begin, Delivery, Survivors
from fedpipe.secure_aggregation.journal import Revelation, SiteJournal, StepRecord
from fedpipe.secure_aggregation.masks import add_masks
from fedpipe.secure_aggregation.message import kind_of
from fedpipe.secure_aggregation.noise import add_noise
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site_messages import Agreement, Letter, Letters, Masked, Revealed, RoundKeys
from fedpipe.secure_aggregation.vector import Vector


class Step(IntEnum):
    """The steps of a round, in their order."""

    KEYS = 1
    SHARE = 2
    MASK = 3
    AGREE = 4
    REVEAL = 5


STEPS: dict[int, Step] = {  # by the kind of the message that asks for it
    Begin.KIND: Step.KEYS,
    AllKeys.KIND: Step.SHARE,
    Delivery.KIND: Step.MASK,
    Survivors.KIND: Step.AGREE,
    Agreements.KIND: Step.REVEAL,
}


class Site:
    """A site of a training."""

    def __init__(
        self,
        identity: Ed25519PrivateKey,
        setting: Setting,
        journal: Path,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Resumes the attempt that the journal has, if it is one of this setting.

        Args:
          identity: The site's private key; the roster has its public key.
          setting: The agreement with the other sites.
          journal: A folder that is the identity's alone, and is never restored from a backup.
          random: (n) -> n bytes that nobody can predict. Others than the default are for tests.

        Raises:
          Refused: The roster does not have the identity.
          PipelineError: The journal is in use or damaged.
        """
        mine = identity.public_key().public_bytes_raw()
        if mine not in setting.roster.identities:
            raise Refused("this site's identity is not in the roster")
        self.number = setting.roster.identities.index(mine) + 1
        self._identity, self._setting, self._random = identity, setting, random
        self._journal = SiteJournal(journal)
        if Step.REVEAL in self._journal.steps:  # killed before the secrets were erased
            self._journal.finish(self._journal.steps[Step.REVEAL])
        self._attempt = Attempt.resumed(setting, self.number, self._journal.steps)

    def close(self) -> None:
        """Frees the journal for another process."""
        self._journal.close()

    @property
    def next_step(self) -> Step | None:
        """The first step that was not answered; None if no attempt is under way."""
        done = self._journal.steps
        return Step(max(done) + 1) if done and self._attempt is not None else None

    @property
    def model(self) -> bytes | None:
        """The digest of the model of the attempt that is under way; None if there is none."""
        return None if self._attempt is None else self._attempt.begin.model

    def answer(self, request: bytes, model: bytes, values: Callable[[], Vector]) -> bytes:
        """The answer to any message of a coordinator, by the step that it belongs to.

        Args:
          request: At most `coordinator_messages.largest_request` bytes.
          model: As of `keys`.
          values: As of `mask`.

        Raises:
          Refused: As of the steps; or the message is of no kind that a coordinator sends.
        """
        kind = kind_of(request)
        if kind == Begin.KIND:
            return self.keys(request, model)
        if kind == Delivery.KIND:
            return self.mask(request, values)
        steps = {AllKeys.KIND: self.share, Survivors.KIND: self.agree, Agreements.KIND: self.reveal}
        if kind not in steps:
            raise Refused("these bytes are no message of a coordinator")
        return steps[kind](request)

    def keys(self, request: bytes, model: bytes) -> bytes:
        """Step 1, `Begin` -> `RoundKeys`: fresh keys for a new attempt.

        The former attempt is over with this, revealed or not.

        Args:
          request: The message.
          model: SHA-256 of the model that this site received, as the site has computed it.

        Raises:
          Refused: The message is none of this setting or of this model, or the attempt or the round was answered
            before.
        """
        if (answered := self._answered(Step.KEYS, request)) is not None:
            return answered
        begin = Begin.decode(request)
        if begin != Begin.of(self._setting, begin.round_number, begin.attempt, begin.model):
            raise Refused("the coordinator has another setting than this site: training, roster or sizes differ")
        if begin.model != model:
            raise Refused("the coordinator names another model than it has sent to this site")
        self._journal.begin(begin)
        secrets = keys.Secrets.sample(self._random)
        unsigned = RoundKeys(
            begin.context,
            self.number,
            keys.public(secrets.mask),
            keys.public(secrets.letter),
            keys.commitment(secrets.seed),
            b"",
        )
        answer = unsigned.signed(self._identity.sign(begin.context + unsigned.fields))
        self._attempt = Attempt(self._setting, self.number, begin, secrets, answer)
        return self._keep(Step.KEYS, request, secrets.encode(), answer.encode())

    def share(self, request: bytes) -> bytes:
        """Step 2, `AllKeys` -> `Letters`: shares of this site's secrets, encrypted for each other site.

        Raises:
          Refused: Keys are too few, not signed by whom they name, or without those of this site.
        """
        if (answered := self._answered(Step.SHARE, request)) is not None:
            return answered
        attempt = self._under_way()
        received = AllKeys.decode(request)
        attempt.take_keys(received)
        threshold, secrets = self._setting.roster.threshold, attempt.secrets
        of_key = shamir.split(secrets.mask, attempt.round_keys, threshold, self._random)
        of_seed = shamir.split(secrets.seed, attempt.round_keys, threshold, self._random)
        letters = []
        for site in attempt.others:
            digests = agreement.share_digests(of_key[site], of_seed[site])
            sealed = attempt.box(site).seal(of_key[site] + of_seed[site], digests[0] + digests[1])
            letters.append(Letter(site, digests, sealed))
        attempt.kept = (of_key[self.number], of_seed[self.number])
        own = agreement.share_digests(*attempt.kept)
        answer = Letters(attempt.context, self.number, own, tuple(letters))
        return self._keep(Step.SHARE, request, b"".join(attempt.kept), answer.encode())

    def mask(self, request: bytes, values: Callable[[], Vector]) -> bytes:
        """Step 3, `Delivery` -> `Masked`: this site's vector under its masks, with its share of the noise.

        Args:
          request: The letters; their senders and this site are the members of the round.
          values: Gives the vector, and is called if it was not masked before. Its arrays are changed.

        Raises:
          Refused: A letter is not from whom it names, or holds other shares than its digests; members are too few;
            the vector has another size.
        """
        if (answered := self._answered(Step.MASK, request)) is not None:
            return answered
        attempt, setting = self._under_way(), self._setting
        attempt.take_letters(Delivery.decode(request))
        vector = values()
        vector.require(setting.bits, setting.length, setting.quantities)
        add_noise(vector.weights, setting.noise_per_site, self._random)
        add_masks(vector, attempt.masks())
        vector.reduce(setting.bits)
        answer = Masked(attempt.context, self.number, vector)
        return self._keep(Step.MASK, request, b"", answer.encode())

    def agree(self, request: bytes) -> bytes:
        """Step 4, `Survivors` -> `Agreement`: signs members and survivors.

        Raises:
          Refused: Survivors are too few, no members, or without this site; or the model was answered in another set
            of sites.
        """
        if (answered := self._answered(Step.AGREE, request)) is not None:
            return answered
        attempt = self._under_way()
        attempt.take_survivors(Survivors.decode(request))
        self._journal.require_same_sites(attempt.begin, attempt.identities, repeatable=not self._setting.noise)
        answer = Agreement(attempt.context, self.number, self._identity.sign(attempt.agreed))
        return self._keep(Step.AGREE, request, b"", answer.encode())

    def reveal(self, request: bytes) -> bytes:
        """Step 5, `Agreements` -> `Revealed`: of each member one share. Once per round, ever; then secrets are erased.

        Raises:
          Refused: A signature is wrong, or they are fewer than the threshold; or the round was revealed before.
        """
        if (answered := self._answered(Step.REVEAL, request)) is not None:
            return answered
        attempt = self._under_way()
        attempt.require_agreements(Agreements.decode(request))
        begin, digest = attempt.begin, hashlib.sha256(request).digest()
        names = (begin.training, begin.round_number, begin.attempt, begin.model)
        self._journal.reveal(Revelation(*names, attempt.identities, digest))
        answer = Revealed(attempt.context, self.number, attempt.revealed()).encode()
        self._keep(Step.REVEAL, request, b"", answer)
        self._journal.finish(self._journal.steps[Step.REVEAL])
        self._attempt = None
        return answer

    def _answered(self, step: Step, request: bytes) -> bytes | None:
        """The answer that was sent to this message; None if the step is the next one.

        Raises:
          Refused: The step was answered to another message, or it is out of turn.
        """
        journal = self._journal
        records = [journal.steps.get(step), journal.last]
        for record in records:
            if record is not None and (record.step, record.request) == (step, request):
                return record.answer
        if step == Step.KEYS:
            return None
        if step in journal.steps:
            raise Refused(f"step {step.name.lower()} was answered before, to another message")
        if self.next_step != step:
            raise Refused(f"step {step.name.lower()} is out of turn")
        return None

    def _under_way(self) -> Attempt:
        if self._attempt is None:
            raise Refused("no attempt is under way")
        return self._attempt

    def _keep(self, step: Step, request: bytes, secret: bytes, answer: bytes) -> bytes:
        self._journal.add(StepRecord(step, request, secret, answer))
        return answer
