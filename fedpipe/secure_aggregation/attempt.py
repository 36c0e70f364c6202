"""A site's state of the present attempt, step by step; and its requirements of the messages that it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedpipe.secure_aggregation import agreement, keys
from fedpipe.secure_aggregation.coordinator_messages import Agreements, AllKeys, Begin, Delivery, Survivors
from fedpipe.secure_aggregation.journal import StepRecord
from fedpipe.secure_aggregation.masks import Mask
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.shamir import SHARE_BYTES
from fedpipe.secure_aggregation.site_messages import RoundKeys

Shares = tuple[bytes, bytes]  # of the mask's key, of the seed


@dataclass(repr=False)
class Attempt:
    """One attempt of a round at one site.

    Attributes:
      setting: Of the training.
      number: The site's.
      begin: The message that began it.
      secrets: The site's.
      mine: The site's public keys, as they were sent.
      round_keys: Of all sites that take part, once they came.
      kept: The shares of the site's own secrets that are its own.
      held: Shares of all members' secrets, once letters came.
      survivors: Whose vectors the sum is to have, once that was signed.
    """

    setting: Setting
    number: int
    begin: Begin
    secrets: keys.Secrets
    mine: RoundKeys
    round_keys: dict[int, RoundKeys] = field(default_factory=dict)
    kept: Shares = (b"", b"")
    held: dict[int, Shares] = field(default_factory=dict)
    survivors: frozenset[int] = frozenset()
    _boxes: dict[int, keys.LetterBox] = field(default_factory=dict)

    @classmethod
    def resumed(cls, setting: Setting, number: int, steps: Mapping[int, StepRecord]) -> "Attempt | None":
        """The attempt of a journal; None if it has none of this setting."""
        if 1 not in steps:
            return None
        begin = Begin.decode(steps[1].request)
        if begin != Begin.of(setting, begin.round_number, begin.attempt, begin.model):
            return None
        mine = RoundKeys.decode(steps[1].answer)
        attempt = cls(setting, number, begin, keys.Secrets.decode(steps[1].secret), mine)
        if 2 in steps:
            attempt.take_keys(AllKeys.decode(steps[2].request))
            secret = steps[2].secret
            attempt.kept = (secret[:SHARE_BYTES], secret[SHARE_BYTES:])
        if 3 in steps:
            attempt.take_letters(Delivery.decode(steps[3].request))
        if 4 in steps:
            attempt.take_survivors(Survivors.decode(steps[4].request))
        return attempt

    @property
    def context(self) -> bytes:
        """The digest that binds keys and messages to this attempt."""
        return self.begin.context

    @cached_property
    def _letter_key(self) -> X25519PrivateKey:
        return keys.private_key(self.secrets.letter)

    @property
    def others(self) -> list[int]:
        """The other sites whose keys came."""
        return sorted(self.round_keys.keys() - {self.number})

    def box(self, site: int) -> keys.LetterBox:
        """The letters between this site and another one."""
        if site not in self._boxes:
            other = self.round_keys[site].letter_key
            shared = keys.exchange(self._letter_key, other, site)
            mine = self.mine.letter_key
            self._boxes[site] = keys.LetterBox(self.number, mine, site, other, shared, self.context)
        return self._boxes[site]

    def take_keys(self, message: AllKeys) -> None:
        """Raises Refused if keys are too few, not signed by whom they name, or without those of this site."""
        self._require_context(message.context)
        self._require_enough(len(message.keys), "sites sent keys")
        for each in message.keys:
            self.setting.roster.verify(each.site, each.signature, self.context + each.fields)
        received = {each.site: each for each in message.keys}
        if received.get(self.number) != self.mine:
            raise Refused("the keys of this site are missing, or are others than it has sent")
        self.round_keys, self._boxes = received, {}

    def take_letters(self, message: Delivery) -> None:
        """Raises Refused if letters are too few, or one is not from whom it names, or has shares of other digests."""
        self._require_context(message.context)
        if message.site != self.number:
            raise Refused(f"these letters are for site {message.site}")
        self._require_enough(len(message.letters) + 1, "members are in the round")
        held = {self.number: self.kept}
        for letter in message.letters:
            if letter.site not in self.others:
                raise Refused(f"a letter of site {letter.site} came, and no keys", letter.site)
            shares = self.box(letter.site).open(letter.sealed, letter.digests[0] + letter.digests[1])
            held[letter.site] = (shares[:SHARE_BYTES], shares[SHARE_BYTES:])
            if agreement.share_digests(*held[letter.site]) != letter.digests:
                raise Refused(f"site {letter.site} sent shares that are not those of its digests", letter.site)
        self.held = held

    def masks(self) -> list[Mask]:
        """The site's own mask, and one with each other member."""
        private, me = keys.private_key(self.secrets.mask), self.number
        pairs = [
            keys.pair_mask(private, self.round_keys[site].mask_key, self.context, me, site)
            for site in sorted(self.held.keys() - {me})
        ]
        return [keys.own_mask(self.secrets.seed, self.context, me), *pairs]

    def take_survivors(self, message: Survivors) -> None:
        """Raises Refused if survivors are too few, no members, or without this site."""
        self._require_context(message.context)
        survivors = frozenset(message.sites)
        self._require_enough(len(survivors), "vectors came")
        if not survivors <= self.held.keys() or self.number not in survivors:
            raise Refused("survivors are no members of the round, or without this site")
        self.survivors = survivors

    @property
    def agreed(self) -> bytes:
        """The bytes that the survivors sign."""
        return agreement.text(self.context, self.round_keys, self.held, self.survivors)

    @property
    def identities(self) -> bytes:
        """A digest of who the survivors are."""
        return agreement.identities(self.setting.roster, self.survivors)

    def require_agreements(self, message: Agreements) -> None:
        """Raises Refused unless as many survivors as the threshold have signed the same as this site."""
        self._require_context(message.context)
        agreed = self.agreed
        for each in message.agreements:
            if each.site not in self.survivors:
                raise Refused(f"site {each.site} is no survivor, and its signature does not count", each.site)
            self.setting.roster.verify(each.site, each.signature, agreed)
        threshold = self.setting.roster.threshold
        if len(message.agreements) < threshold:
            raise Refused(f"{len(message.agreements)} sites signed the survivors, and {threshold} are needed")

    def revealed(self) -> tuple[bytes, ...]:
        """Of each member one share, in their order: of its seed if it survived, else of its key."""
        return tuple(self.held[site][site in self.survivors] for site in sorted(self.held))

    def _require_context(self, context: bytes) -> None:
        if context != self.context:
            raise Refused("the message is of another attempt, round, model or setting")

    def _require_enough(self, sites: int, what: str) -> None:
        if sites < self.setting.roster.minimum:
            raise Refused(f"{sites} {what}, and a sum has at least {self.setting.roster.minimum}")
