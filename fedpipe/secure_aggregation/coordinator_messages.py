"""The messages that the coordinator sends, and how large each message can be."""

from dataclasses import dataclass

from fedpipe.secure_aggregation.encoding import Reader, Writer
from fedpipe.secure_aggregation.keys import SECRET_BYTES
from fedpipe.secure_aggregation.message import (
    COUNT_BYTES,
    HEADER_BYTES,
    NUMBER_BYTES,
    SITE_BYTES,
    Message,
    entries,
    require_ascending,
)
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import SIGNATURE_BYTES
from fedpipe.secure_aggregation.setting import DIGEST_BYTES, Setting
from fedpipe.secure_aggregation.shamir import SHARE_BYTES
from fedpipe.secure_aggregation.site_messages import (
    SEALED_BYTES,
    SHARE_DIGEST_BYTES,
    WORD_BYTES,
    Agreement,
    Letter,
    Letters,
    Masked,
    Revealed,
    RoundKeys,
    read_letters,
    write_letters,
)
from fedpipe.secure_aggregation.vector import word


@dataclass(frozen=True)
class Begin(Message):
    """Begins an attempt of a round; ``model`` is the digest of the model that goes with it."""

    KIND = 1
    context: bytes
    training: bytes
    round_number: int
    attempt: int
    model: bytes

    @classmethod
    def of(cls, setting: Setting, round_number: int, attempt: int, model: bytes) -> "Begin":
        """The message of a setting.

        Args:
          setting: Of the training.
          round_number: From 0 on.
          attempt: From 0 on; another one after an attempt without a sum.
          model: SHA-256 of all that the sites' answers in this round depend on: the model, and what else was sent.

        Raises:
          Refused: One of them is out of range.
        """
        if not (0 <= round_number < 1 << 32 and 0 <= attempt < 1 << 32 and len(model) == DIGEST_BYTES):
            raise Refused("a round and an attempt are numbers below 2^32, and a model is named by 32 bytes")
        context = setting.context(round_number, attempt, model)
        return cls(context, setting.training, round_number, attempt, model)

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.training).number(self.round_number, NUMBER_BYTES).number(self.attempt, NUMBER_BYTES).fixed(
            self.model
        )

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Begin":
        training, numbers = reader.fixed(DIGEST_BYTES), (reader.number(NUMBER_BYTES), reader.number(NUMBER_BYTES))
        return cls(context, training, *numbers, reader.fixed(DIGEST_BYTES))


@dataclass(frozen=True)
class AllKeys(Message):
    """All keys that came."""

    KIND = 3
    context: bytes
    keys: tuple[RoundKeys, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(len(self.keys), COUNT_BYTES)
        for keys in self.keys:
            keys._write(writer)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "AllKeys":
        keys = tuple(RoundKeys._read(reader, context) for _ in range(entries(reader)))
        require_ascending([each.site for each in keys])
        return cls(context, keys)


@dataclass(frozen=True)
class Delivery(Message):
    """The letters to one site; whoever has sent one is a member of the round."""

    KIND = 5
    context: bytes
    site: int
    letters: tuple[Letter, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(self.site, SITE_BYTES)
        write_letters(writer, self.letters)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Delivery":
        return cls(context, reader.number(SITE_BYTES), read_letters(reader))


@dataclass(frozen=True)
class Survivors(Message):
    """The sites whose vectors the sum is to have."""

    KIND = 7
    context: bytes
    sites: tuple[int, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(len(self.sites), COUNT_BYTES)
        for site in self.sites:
            writer.number(site, SITE_BYTES)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Survivors":
        sites = tuple(reader.number(SITE_BYTES) for _ in range(entries(reader)))
        require_ascending(sites)
        return cls(context, sites)


@dataclass(frozen=True)
class Agreements(Message):
    """All signatures of members and survivors that came."""

    KIND = 9
    context: bytes
    agreements: tuple[Agreement, ...]

    def _write(self, writer: Writer) -> None:
        writer.number(len(self.agreements), COUNT_BYTES)
        for agreement in self.agreements:
            agreement._write(writer)

    @classmethod
    def _read(cls, reader: Reader, context: bytes) -> "Agreements":
        agreements = tuple(Agreement._read(reader, context) for _ in range(entries(reader)))
        require_ascending([each.site for each in agreements])
        return cls(context, agreements)


def largest(kind: type[Message], setting: Setting) -> int:
    """Bytes that a message of this kind can have, for a transport to refuse larger ones before it reads them."""
    sites, vector = len(setting.roster.identities), word(setting.bits).itemsize * setting.length
    letter = SITE_BYTES + 2 * SHARE_DIGEST_BYTES + SEALED_BYTES
    of_site = {RoundKeys: 3 * SECRET_BYTES + SIGNATURE_BYTES, Agreement: SIGNATURE_BYTES}
    bodies: dict[type[Message], int] = {
        Begin: 2 * DIGEST_BYTES + 2 * NUMBER_BYTES,
        RoundKeys: SITE_BYTES + of_site[RoundKeys],
        AllKeys: COUNT_BYTES + sites * (SITE_BYTES + of_site[RoundKeys]),
        Letters: SITE_BYTES + 2 * SHARE_DIGEST_BYTES + COUNT_BYTES + (sites - 1) * letter,
        Delivery: SITE_BYTES + COUNT_BYTES + (sites - 1) * letter,
        Masked: SITE_BYTES + WORD_BYTES + NUMBER_BYTES + COUNT_BYTES + vector + 8 * setting.quantities,
        Survivors: COUNT_BYTES + sites * SITE_BYTES,
        Agreement: SITE_BYTES + of_site[Agreement],
        Agreements: COUNT_BYTES + sites * (SITE_BYTES + of_site[Agreement]),
        Revealed: SITE_BYTES + COUNT_BYTES + sites * SHARE_BYTES,
    }
    return HEADER_BYTES + bodies[kind]


def largest_request(setting: Setting) -> int:
    """Bytes that any message to a site can have."""
    return max(largest(kind, setting) for kind in (Begin, AllKeys, Delivery, Survivors, Agreements))
