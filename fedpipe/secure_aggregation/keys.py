"""Secrets of one attempt of a round, and keys derived from them; each key is for one purpose in one context.

    letter key of i to j = HKDF(X25519(letter_i, letter_j), salt = context, info = "letter", i, j, both public keys)
    mask of i and j      = HKDF(X25519(mask_i, mask_j),     salt = context, info = "pair", smaller, larger number)
    own mask of i        = HKDF(seed_i,                     salt = context, info = "own", i)

Shamir's shares are of the mask's key and of the seed, both fresh in each attempt. The letter key is never shared, else
whoever recovers it could open the letters of others.

Source: RFC 7748 (X25519), RFC 5869 (HKDF with SHA-256), NIST SP 800-38D (AES-256-GCM).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedpipe.secure_aggregation import masks
from fedpipe.secure_aggregation.encoding import Reader, joined
from fedpipe.secure_aggregation.refusal import Refused

_NONCE = bytes(12)  # each letter has a key of its own, so that the nonce can be constant
SECRET_BYTES, TAG_BYTES = 32, 16


@dataclass(frozen=True, repr=False)
class Secrets:
    """A site's random values for one attempt.

    Attributes:
      mask: X25519 private key of the masks with other sites; recovered by the others if the site drops out.
      letter: X25519 private key of letters; stays here.
      seed: Of the site's own mask; recovered by the others if the site does not drop out.
    """

    mask: bytes
    letter: bytes
    seed: bytes

    @classmethod
    def sample(cls, random: Callable[[int], bytes]) -> "Secrets":
        """Fresh secrets of 32 bytes each."""
        return cls(random(SECRET_BYTES), random(SECRET_BYTES), random(SECRET_BYTES))

    def encode(self) -> bytes:
        """For the journal."""
        return self.mask + self.letter + self.seed

    @classmethod
    def decode(cls, data: bytes) -> "Secrets":
        """From the journal."""
        reader = Reader(data, "the secrets in the journal")
        secrets = cls(reader.fixed(SECRET_BYTES), reader.fixed(SECRET_BYTES), reader.fixed(SECRET_BYTES))
        reader.end()
        return secrets


def private_key(private: bytes) -> X25519PrivateKey:
    """Loads an X25519 private key of 32 bytes, which takes as long as an exchange."""
    return X25519PrivateKey.from_private_bytes(private)


def public(private: bytes) -> bytes:
    """The public key of an X25519 private key."""
    return private_key(private).public_key().public_bytes_raw()


def commitment(seed: bytes) -> bytes:
    """A digest of a seed, which is published before the seed is known."""
    return hashlib.sha256(b"seed" + seed).digest()


def derive(secret: bytes, context: bytes, purpose: bytes, size: int) -> bytes:
    """A key of ``size`` bytes for one purpose in one context."""
    return HKDF(hashes.SHA256(), size, salt=context, info=purpose).derive(secret)


def exchange(private: X25519PrivateKey, other: bytes, site: int) -> bytes:
    """X25519's shared secret with the public key ``other`` of ``site``.

    Raises:
      Refused: The public key is of small order, so that the secret would be known to all.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise Refused(f"the key of site {site} is no usable X25519 public key", site) from None


def pair_mask(private: X25519PrivateKey, other: bytes, context: bytes, me: int, site: int) -> masks.Mask:
    """The mask of two sites, as ``me`` adds it: the smaller number adds it, the larger one subtracts it."""
    info = joined(b"pair", b"%d" % min(me, site), b"%d" % max(me, site))
    return masks.Mask(derive(exchange(private, other, site), context, info, masks.KEY_BYTES), subtract=me > site)


def own_mask(seed: bytes, context: bytes, me: int) -> masks.Mask:
    """The mask that keeps a site's vector hidden if its message is late and the others' masks were recovered."""
    return masks.Mask(derive(seed, context, joined(b"own", b"%d" % me), masks.KEY_BYTES))


@dataclass(frozen=True, repr=False)
class LetterBox:
    """One site's end of the letters between it and another site, in one attempt.

    Attributes:
      me: Its number.
      my_key: Its public key of letters.
      site: The other site's number.
      other_key: The other site's public key of letters.
      shared: The secret of both keys.
      context: Of the attempt.
    """

    me: int
    my_key: bytes
    site: int
    other_key: bytes
    shared: bytes
    context: bytes

    def seal(self, text: bytes, beside: bytes) -> bytes:
        """Encrypts ``text`` and authenticates it and ``beside``. Once per letter box: one key, one letter."""
        return self._cipher((self.me, self.my_key), (self.site, self.other_key)).encrypt(_NONCE, text, beside)

    def open(self, sealed: bytes, beside: bytes) -> bytes:
        """The text. Raises Refused if the letter is not from that site to this one, in this context."""
        try:
            return self._cipher((self.site, self.other_key), (self.me, self.my_key)).decrypt(_NONCE, sealed, beside)
        except InvalidTag:
            raise Refused(f"the letter is not from site {self.site} to site {self.me}", self.site) from None

    def _cipher(self, sender: tuple[int, bytes], receiver: tuple[int, bytes]) -> AESGCM:
        numbers = (b"%d" % sender[0], b"%d" % receiver[0])
        return AESGCM(derive(self.shared, self.context, joined(b"letter", *numbers, sender[1], receiver[1]), 32))
