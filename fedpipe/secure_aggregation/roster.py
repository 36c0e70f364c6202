"""Who takes part: the sites' pinned Ed25519 keys, and how many of them a sum needs.

Each site has this list from the sites themselves, not from the coordinator: whoever chooses the list can fill it with
sites of its own. With n sites of which c may side with the coordinator,

    threshold t = floor((n + c) / 2) + 1            the smallest t with 2 t > n + c
    survivors  >= max(t, c + 2, 3)

Since an honest site signs one set of survivors, no two sets of one attempt have t signatures each. In a sum of
two, each site knows the other's summand; colluding sites know theirs. (t is never below c + 2.)

Source: Bonawitz et al. 2017, theorem 6.5, https://eprint.iacr.org/2017/281; RFC 8032 for Ed25519.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.vector import MOST_SITES

FEWEST_SITES = 3
IDENTITY_BYTES, SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True)
class Roster:
    """The sites of a training; site i has the i-th key, from 1 on.

    Attributes:
      identities: Ed25519 public keys, 32 bytes each, all different.
      colluding: c, so many sites may break the rules together with the coordinator.

    Raises:
      Refused: There are fewer than 3 sites or more than 1000, a key is there twice or has another length, or
        ``colluding`` is not from 0 to n - 2.
    """

    identities: tuple[bytes, ...]
    colluding: int = 0

    def __post_init__(self) -> None:
        sites = len(self.identities)
        if not FEWEST_SITES <= sites <= MOST_SITES:
            raise Refused(f"a roster has {FEWEST_SITES} to {MOST_SITES} sites, not {sites}")
        if any(len(key) != IDENTITY_BYTES for key in self.identities):
            raise Refused(f"an identity in the roster is not an Ed25519 public key of {IDENTITY_BYTES} bytes")
        if len(set(self.identities)) != sites:
            raise Refused("two sites of the roster have the same identity")
        if not 0 <= self.colluding <= sites - 2:
            raise Refused(f"of {sites} sites, 0 to {sites - 2} may collude, not {self.colluding}")

    @property
    def sites(self) -> range:
        """All sites' numbers."""
        return range(1, len(self.identities) + 1)

    @property
    def threshold(self) -> int:
        """t: so many signatures and shares are needed."""
        return (len(self.identities) + self.colluding) // 2 + 1

    @property
    def minimum(self) -> int:
        """The fewest summands of a sum."""
        return max(self.threshold, self.colluding + 2, FEWEST_SITES)

    def identity(self, site: int) -> bytes:
        """The site's key. Raises Refused if it is not in the roster."""
        if site not in self.sites:
            raise Refused(f"site {site} is not in the roster", site)
        return self.identities[site - 1]

    def verify(self, site: int, signature: bytes, content: bytes) -> None:
        """Raises Refused if the site has not signed ``content``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.identity(site)).verify(signature, content)
        except (InvalidSignature, ValueError):
            raise Refused(f"site {site} did not sign this", site) from None
