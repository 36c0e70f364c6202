"""What all messages of a round have in common: a fixed layout, little-endian, with site numbers in ascending order.

    "fpsa"  version (1 byte)  kind (1)  context of the attempt (32)  fields of the kind

| step   | to the sites | from a site |
| ------ | ------------ | ----------- |
| keys   | Begin        | RoundKeys   |
| share  | AllKeys      | Letters     |
| mask   | Delivery     | Masked      |
| agree  | Survivors    | Agreement   |
| reveal | Agreements   | Revealed    |
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Self

from fedpipe.secure_aggregation.encoding import Reader, Writer
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import DIGEST_BYTES
from fedpipe.secure_aggregation.vector import MOST_SITES

_MAGIC, _VERSION = b"fpsa", 1
HEADER_BYTES = len(_MAGIC) + 2 + DIGEST_BYTES
SITE_BYTES, COUNT_BYTES, NUMBER_BYTES = 2, 2, 4  # of a site's number, of a number of entries, of a round


class Message:
    """What all messages have in common."""

    KIND: ClassVar[int]
    context: bytes

    def encode(self) -> bytes:
        """The bytes to send."""
        writer = Writer().fixed(_MAGIC).number(_VERSION, 1).number(self.KIND, 1).fixed(self.context)
        self._write(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message. Raises Refused for any bytes that `encode` does not make."""
        reader = Reader(data, cls.__name__)
        start = (reader.fixed(len(_MAGIC)), reader.number(1), reader.number(1))
        if start != (_MAGIC, _VERSION, cls.KIND):
            raise Refused(f"these bytes are no {cls.__name__} of version {_VERSION}")
        message = cls._read(reader, reader.fixed(DIGEST_BYTES))
        reader.end()
        return message

    def _write(self, writer: Writer) -> None:
        raise NotImplementedError

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> Self:
        raise NotImplementedError


class SiteMessage(Message):
    """A message that a site sends; it names its sender, whom the transport must have authenticated."""

    site: int


def kind_of(data: bytes) -> int | None:
    """The kind of a message by its first bytes; None if they are of no message of this version."""
    start = _MAGIC + bytes([_VERSION])
    return data[len(start)] if data[: len(start)] == start and len(data) > len(start) else None


def entries(reader: Reader) -> int:
    """How many entries follow. Raises Refused if no roster has so many sites."""
    count = reader.number(COUNT_BYTES)
    if count > MOST_SITES:
        raise Refused(f"{count} entries are more than the {MOST_SITES} sites that a roster can have")
    return count


def require_ascending(sites: Sequence[int]) -> None:
    """Raises Refused unless each number is above the one before."""
    if any(number >= other for number, other in pairwise(sites)):
        raise Refused("sites are not in ascending order, or are there twice")
