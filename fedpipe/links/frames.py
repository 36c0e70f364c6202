"""Messages of any size as frames of a stream, and back, with a limit on the bytes of a peer.

A frame: the number of the question (uint64), the bytes of the whole message (uint64), and a part of it.
"""

import struct
from collections.abc import Callable, Iterable, Iterator

from fedpipe.errors import PipelineError

PART = 2**20  # bytes of a message in a frame, at most
_HEAD = struct.Struct(">QQ")
LARGEST_FRAME = PART + _HEAD.size


def frames(number: int, content: bytes) -> Iterator[bytes]:
    """The frames of a message, one after the other; none is made before it is wanted."""
    whole, head = memoryview(content), _HEAD.pack(number, len(content))
    for start in range(0, max(len(content), 1), PART):
        yield head + whole[start : start + PART]


def messages(
    stream: Iterable[bytes], largest: int, is_expected: Callable[[int], bool] = lambda number: True
) -> Iterator[tuple[int, bytes]]:
    """The messages of a stream, each with its number.

    Args:
      stream: Frames.
      largest: The bytes that a message may have.
      is_expected: Whether a message with this number is waited for.

    Raises:
      PipelineError: A frame is none, or is of a message that is too large or not expected.
    """
    parts: list[bytes] = []
    current: tuple[int, int] | None = None  # number and bytes of the message under way
    have = 0
    for frame in stream:
        if not _HEAD.size <= len(frame) <= LARGEST_FRAME:
            raise PipelineError(f"a frame of {len(frame)} bytes")
        head = _HEAD.unpack_from(frame)
        part = frame[_HEAD.size :]
        if current is None:
            if head[1] > largest:
                raise PipelineError(f"a message of {head[1]:,} bytes; {largest:,} are allowed")
            if not is_expected(head[0]):
                raise PipelineError("a message that nobody asked for")
            current = head
        if head != current or (not part and current[1]) or have + len(part) > current[1]:
            raise PipelineError("frames that do not belong together")
        parts.append(part)
        have += len(part)
        if have == current[1]:
            yield current[0], b"".join(parts)
            parts, current, have = [], None, 0
