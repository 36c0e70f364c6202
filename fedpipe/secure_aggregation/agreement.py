"""What sites and the coordinator compute alike: digests of shares, and the text that survivors sign."""

import hashlib
from collections.abc import Iterable, Mapping

from fedpipe.secure_aggregation.encoding import joined
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.site_messages import SHARE_DIGEST_BYTES, RoundKeys


def share_digest(share: bytes) -> bytes:
    """16 bytes of SHA-256: nobody finds another share with the same ones; a share is too random to be guessed."""
    return hashlib.sha256(b"share" + share).digest()[:SHARE_DIGEST_BYTES]


def share_digests(of_key: bytes, of_seed: bytes) -> tuple[bytes, bytes]:
    """The digests of both shares that a site gets."""
    return share_digest(of_key), share_digest(of_seed)


def text(context: bytes, keys: Mapping[int, RoundKeys], members: Iterable[int], survivors: Iterable[int]) -> bytes:
    """What survivors sign: the keys of all members, and whose vectors the sum is to have."""
    fields = [keys[site].fields for site in sorted(members)]
    named = [b"%d" % site for site in sorted(survivors)]
    return context + b"survivors" + hashlib.sha256(joined(joined(*fields), joined(*named))).digest()


def identities(roster: Roster, sites: Iterable[int]) -> bytes:
    """A digest of a set of sites that is the same in all rosters."""
    return hashlib.sha256(joined(*sorted(roster.identity(site) for site in sites))).digest()
