"""The coordinator's last step: from the sum of masked vectors, and shares of secrets, to the sum of the vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fedpipe.secure_aggregation import keys, shamir
from fedpipe.secure_aggregation.agreement import share_digest
from fedpipe.secure_aggregation.masks import Mask, add_masks
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site_messages import Letters, Revealed, RoundKeys
from fedpipe.secure_aggregation.vector import Vector


@dataclass(frozen=True)
class Round:
    """The coordinator's state of an attempt before shares are revealed.

    Attributes:
      setting: Of the training.
      context: Of the attempt.
      keys: Of all sites that sent them.
      letters: Of all members.
      survivors: Whose vectors are in the sum.
    """

    setting: Setting
    context: bytes
    keys: Mapping[int, RoundKeys]
    letters: Mapping[int, Letters]
    survivors: frozenset[int]

    def require_right_shares(self, message: Revealed) -> None:
        """Raises Refused, with the sender's number, if a share is not the one that its member gave to the sender.

        The sender has compared each share with its digest when it took the letters, so that nobody else is at fault.
        """
        members = sorted(self.letters)
        if len(message.shares) != len(members):
            raise Refused(f"{len(message.shares)} shares are not those of {len(members)} members", message.site)
        for member, share in zip(members, message.shares, strict=True):
            shamir.element(share, message.site)
            if share_digest(share) != self._digests.get((member, message.site)):
                raise Refused(f"site {message.site} revealed a wrong share of site {member}'s secret", message.site)

    @cached_property
    def _digests(self) -> dict[tuple[int, int], bytes]:
        """Of each share that is to be revealed, by whose secret it is of and who holds it."""
        digests = {}
        for member, sent in self.letters.items():
            survived = member in self.survivors
            digests[member, member] = sent.own_digests[survived]
            for letter in sent.letters:
                digests[member, letter.site] = letter.digests[survived]
        return digests

    def unmask(self, total: Vector, revealed: Mapping[int, Revealed]) -> None:
        """Takes all masks off the sum of the survivors' vectors, in place.

        Args:
          total: Reduced modulo 2^bits afterwards.
          revealed: By site; shares that `require_right_shares` has let through.

        Raises:
          Refused: Sites that revealed shares are fewer than the threshold, or a member's shares are right and give
            another secret than it is committed to: that member shared something else.
        """
        threshold = self.setting.roster.threshold
        if len(revealed) < threshold:
            raise Refused(f"{len(revealed)} sites revealed shares, and {threshold} are needed")
        givers = sorted(revealed)[:threshold]
        weights, masks = shamir.weights_at_zero(givers), []
        for place, member in enumerate(sorted(self.letters)):
            try:
                secret = shamir.combine(weights, {giver: revealed[giver].shares[place] for giver in givers})
                masks += self._masks_of(member, secret)
            except Refused as error:
                raise Refused(f"site {member} shared another secret than its own: {error}", member) from None
        add_masks(total, masks)
        total.reduce(self.setting.bits)

    def _masks_of(self, member: int, secret: bytes) -> list[Mask]:
        """What takes the member's part off: its own mask, or its masks in the survivors' vectors."""
        if member in self.survivors:
            if keys.commitment(secret) != self.keys[member].commitment:
                raise Refused("its seed is not the one of its commitment")
            return [Mask(keys.own_mask(secret, self.context, member).key, subtract=True)]
        if keys.public(secret) != self.keys[member].mask_key:
            raise Refused("its key is not the one that it published")
        # What the lost site would have added is what the survivors' masks lack for the sum to be free of them.
        private = keys.private_key(secret)
        return [
            keys.pair_mask(private, self.keys[site].mask_key, self.context, member, site)
            for site in sorted(self.survivors)
        ]
