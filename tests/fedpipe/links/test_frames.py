"""Messages as frames: what goes in comes out, and nothing else gets through."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.errors import PipelineError
from fedpipe.links.frames import LARGEST_FRAME, PART, frames, messages


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART + 7])
def test_a_message_of_any_size_comes_through(size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    sent = [*frames(7, content), *frames(8, b"next")]
    assert all(len(frame) <= LARGEST_FRAME for frame in sent)
    assert list(messages(sent, 2**40)) == [(7, content), (8, b"next")]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_but_those_of_frames_are_taken(stream: list[bytes]) -> None:
    try:
        received = list(messages(stream, 40))
    except PipelineError:
        return
    sent = [frame for number, content in received for frame in frames(number, content)]
    assert b"".join(content for _, content in received) == b"".join(frame[16:] for frame in stream[: len(sent)])


@pytest.mark.parametrize(
    ("stream", "mistake"),
    [
        ([b"short"], "a frame of 5 bytes"),
        ([b"x" * (LARGEST_FRAME + 1)], "a frame of"),
        ([struct.pack(">QQ", 1, 2**40)], "1,099,511,627,776 bytes; 1,000 are allowed"),
        ([struct.pack(">QQ", 1, 2) + b"a", struct.pack(">QQ", 2, 2) + b"b"], "do not belong together"),
        ([struct.pack(">QQ", 1, 2) + b"abc"], "do not belong together"),
        ([struct.pack(">QQ", 1, 2)], "do not belong together"),
        ([struct.pack(">QQ", 9, 1) + b"a"], "nobody asked for"),
    ],
)
def test_a_peer_that_cheats_is_named(stream: list[bytes], mistake: str) -> None:
    with pytest.raises(PipelineError, match=mistake):
        list(messages(stream, 1000, lambda number: number != 9))
