"""Every parser: what it wrote it reads, and any other bytes are refused."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpipe.secure_aggregation.coordinator_messages import (
    Agreements,
    AllKeys,
    Begin,
    Delivery,
    Survivors,
    largest,
)
from fedpipe.secure_aggregation.message import HEADER_BYTES, Message
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import MOST_WEIGHTS
from fedpipe.secure_aggregation.site_messages import Agreement, Letter, Letters, Masked, Revealed, RoundKeys
from fedpipe.secure_aggregation.vector import Vector
from tests.fedpipe.secure_aggregation.federation import setting_of

CONTEXT = bytes(range(32))
KEYS = [RoundKeys(CONTEXT, site, b"m" * 32, b"l" * 32, b"c" * 32, b"s" * 64) for site in (1, 2, 3)]
LETTERS = tuple(Letter(site, (b"k" * 16, b"o" * 16), b"x" * 82) for site in (2, 3))
AGREED = tuple(Agreement(CONTEXT, site, b"a" * 64) for site in (1, 2, 3))
VECTOR = Vector(np.arange(10, dtype="<u4"), np.arange(2, dtype="<u8"))
MESSAGES: list[Message] = [
    Begin(CONTEXT, b"t" * 32, 7, 1, b"m" * 32),
    KEYS[0],
    AllKeys(CONTEXT, tuple(KEYS)),
    Letters(CONTEXT, 1, (b"k" * 16, b"o" * 16), LETTERS),
    Delivery(CONTEXT, 1, LETTERS),
    Masked(CONTEXT, 1, VECTOR),
    Survivors(CONTEXT, (1, 2, 3)),
    AGREED[0],
    Agreements(CONTEXT, AGREED),
    Revealed(CONTEXT, 1, (b"r" * 33,) * 3),
]
of_each = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)


@of_each
def test_a_message_comes_back_and_has_the_size_that_transports_are_told(message: Message) -> None:
    data = message.encode()
    assert type(message).decode(data).encode() == data
    assert len(data) == largest(type(message), setting_of((1, 2, 3)))  # 3 sites, 10 weights, 2 quantities


@of_each
def test_bytes_that_end_early_or_late_or_are_of_another_kind_or_version_are_refused(message: Message) -> None:
    kind, data = type(message), message.encode()
    for size in range(len(data)):
        with pytest.raises(Refused):
            kind.decode(data[:size])
    with pytest.raises(Refused, match="1 bytes too many"):
        kind.decode(data + b"\0")
    for at in range(6):
        with pytest.raises(Refused, match=f"no {kind.__name__} of version 1"):
            kind.decode(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])


@of_each
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_changed_bytes_are_refused_or_a_message_with_just_these_bytes(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = type(message).decode(bytes(encoded))
    except Refused:
        return
    assert read.encode() == bytes(encoded)


@of_each
@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_or_a_message(message: Message, data: bytes) -> None:
    for begun in (data, message.encode()[:HEADER_BYTES] + data):
        try:
            read = type(message).decode(begun)
        except Refused:
            continue
        assert read.encode() == begun


@pytest.mark.parametrize("words", [MOST_WEIGHTS, MOST_WEIGHTS + 1, 2**32 - 1])
def test_a_length_without_its_bytes_allocates_nothing(words: int) -> None:
    data = MESSAGES[5].encode()[: HEADER_BYTES + 2] + struct.pack("<HIH", 8, words, 0)
    with pytest.raises(Refused, match=r"more bytes were expected|in a number that a sum can have"):
        Masked.decode(data)


@pytest.mark.parametrize("sites", [(2, 1, 3), (1, 1, 2)])
def test_sites_are_in_ascending_order_and_once(sites: tuple[int, ...]) -> None:
    by_site = {each.site: each for each in KEYS}
    wrong: list[Message] = [
        Survivors(CONTEXT, sites),
        AllKeys(CONTEXT, tuple(by_site[site] for site in sites)),
        Agreements(CONTEXT, tuple(AGREED[site - 1] for site in sites)),
        Delivery(CONTEXT, 9, tuple(Letter(site, (b"k" * 16, b"o" * 16), b"x" * 82) for site in sites)),
    ]
    for message in wrong:
        with pytest.raises(Refused, match="ascending order, or are there twice"):
            type(message).decode(message.encode())


def test_more_entries_than_a_roster_can_have_are_refused() -> None:
    data = Survivors(CONTEXT, ()).encode()[:-2] + struct.pack("<H", 1001) + bytes(2002)
    with pytest.raises(Refused, match="1001 entries are more than the 1000 sites"):
        Survivors.decode(data)
