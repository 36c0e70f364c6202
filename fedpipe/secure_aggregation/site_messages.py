"""The messages that sites send.

Weights and quantities are whole words: packing to ``bits`` bits would cost more time than all of the cryptography.
"""

from dataclasses import dataclass, replace

import numpy as np

from fedpipe.secure_aggregation.encoding import Reader, Writer
from fedpipe.secure_aggregation.keys import SECRET_BYTES, TAG_BYTES
from fedpipe.secure_aggregation.message import (
    COUNT_BYTES,
    NUMBER_BYTES,
    SITE_BYTES,
    SiteMessage,
    entries,
    require_ascending,
)
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import SIGNATURE_BYTES
from fedpipe.secure_aggregation.setting import MOST_QUANTITIES, MOST_WEIGHTS
from fedpipe.secure_aggregation.shamir import SHARE_BYTES
from fedpipe.secure_aggregation.vector import QUANTITY, Vector

SHARE_DIGEST_BYTES = 16
WORD_BYTES = 2  # of the size of a word; the words begin at byte 48, a multiple of 8
SEALED_BYTES = 2 * SHARE_BYTES + TAG_BYTES


@dataclass(frozen=True)
class RoundKeys(SiteMessage):
    """A site's public keys and the commitment to its seed, signed with its identity."""

    KIND = 2
    context: bytes
    site: int
    mask_key: bytes
    letter_key: bytes
    commitment: bytes
    signature: bytes

    @property
    def fields(self) -> bytes:
        """The bytes that are signed after the context."""
        return b"keys" + self.site.to_bytes(SITE_BYTES, "little") + self.mask_key + self.letter_key + self.commitment

    def signed(self, signature: bytes) -> "RoundKeys":
        """The same with a signature."""
        return replace(self, signature=signature)

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES).fixed(self.mask_key).fixed(self.letter_key)
        writer.fixed(self.commitment).fixed(self.signature)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "RoundKeys":
        site = reader.number(SITE_BYTES)
        mask_key, letter_key, commitment = (reader.fixed(SECRET_BYTES) for _ in range(3))
        return cls(context, site, mask_key, letter_key, commitment, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True)
class Letter:
    """Two shares for another site, encrypted; and their digests, by which the coordinator can tell a wrong share.

    The digests are authenticated as part of the letter. In a `Letters` message, ``site`` receives it; in a `Delivery`,
    ``site`` has sent it.
    """

    site: int
    digests: tuple[bytes, bytes]  # of the share of the mask's key, of the share of the seed
    sealed: bytes

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES).fixed(self.digests[0]).fixed(self.digests[1]).fixed(self.sealed)

    @classmethod
    def _read(cls, reader: Reader) -> "Letter":
        return cls(reader.number(SITE_BYTES), _digests(reader), reader.fixed(SEALED_BYTES))


@dataclass(frozen=True)
class Letters(SiteMessage):
    """A site's letters to all others whose keys came, and the digests of the shares that it keeps itself."""

    KIND = 4
    context: bytes
    site: int
    own_digests: tuple[bytes, bytes]
    letters: tuple[Letter, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES).fixed(self.own_digests[0]).fixed(self.own_digests[1])
        write_letters(writer, self.letters)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Letters":
        return cls(context, reader.number(SITE_BYTES), _digests(reader), read_letters(reader))


@dataclass(frozen=True)
class Masked(SiteMessage):
    """A site's vector under all of its masks."""

    KIND = 6
    context: bytes
    site: int
    vector: Vector

    def _write(self, writer: Writer) -> None:
        weights, quantities = self.vector.weights, self.vector.quantities
        writer.number(self.site, SITE_BYTES).number(weights.itemsize, WORD_BYTES)
        writer.number(len(weights), NUMBER_BYTES).number(len(quantities), COUNT_BYTES)
        writer.fixed(np.ascontiguousarray(weights).data).fixed(np.ascontiguousarray(quantities).data)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Masked":
        site, size = reader.number(SITE_BYTES), reader.number(WORD_BYTES)
        length, quantities = reader.number(NUMBER_BYTES), reader.number(COUNT_BYTES)
        if size not in (4, 8) or length > MOST_WEIGHTS or quantities > MOST_QUANTITIES:
            raise Refused("Masked: words of 4 or 8 bytes, in a number that a sum can have, were expected")
        weights = np.frombuffer(reader.view(size * length), np.dtype(f"<u{size}"))
        return cls(context, site, Vector(weights, np.frombuffer(reader.view(8 * quantities), QUANTITY)))


@dataclass(frozen=True)
class Agreement(SiteMessage):
    """A site's signature of members and survivors."""

    KIND = 8
    context: bytes
    site: int
    signature: bytes

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES).fixed(self.signature)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Agreement":
        return cls(context, reader.number(SITE_BYTES), reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True)
class Revealed(SiteMessage):
    """A share of each member's secret, in the order of their numbers: of the seed if it survived, else of the key."""

    KIND = 10
    context: bytes
    site: int
    shares: tuple[bytes, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES).number(len(self.shares), COUNT_BYTES)
        for share in self.shares:
            writer.fixed(share)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Revealed":
        site = reader.number(SITE_BYTES)
        return cls(context, site, tuple(reader.fixed(SHARE_BYTES) for _ in range(entries(reader))))


def _digests(reader: Reader) -> tuple[bytes, bytes]:
    return reader.fixed(SHARE_DIGEST_BYTES), reader.fixed(SHARE_DIGEST_BYTES)


def write_letters(writer: Writer, letters: tuple[Letter, ...]) -> None:
    """Letters after their number."""
    writer.number(len(letters), COUNT_BYTES)
    for letter in letters:
        letter._write(writer)


def read_letters(reader: Reader) -> tuple[Letter, ...]:
    """The same back."""
    letters = tuple(Letter._read(reader) for _ in range(entries(reader)))
    require_ascending([each.site for each in letters])
    return letters
