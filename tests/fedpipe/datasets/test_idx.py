"""The IDX reader: every array comes back, and a file that lies is refused by name."""

import math
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpipe.datasets.idx import read_idx, write_idx
from fedpipe.errors import PipelineError

ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def read_bytes(content):
    """Through a file, since hypothesis calls a test many times and pytest gives it one folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some-idx"
        path.write_bytes(content)
        return read_idx(path)


@given(ARRAYS)
def test_round_trip(array):
    read = read_bytes(idx_bytes(array))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(ARRAYS)
def test_writing_gives_the_format_s_bytes(array):
    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder) / "some-idx", np.asfortranarray(array))
        assert (Path(folder) / "some-idx").read_bytes() == idx_bytes(array)


@given(ARRAYS, st.data())
def test_cut_anywhere_is_refused(array, data):
    content = idx_bytes(array)
    with pytest.raises(PipelineError, match="some-idx"):
        read_bytes(content[: data.draw(st.integers(0, len(content) - 1))])


@given(ARRAYS, st.binary(min_size=1, max_size=9))
def test_anything_behind_is_refused(array, tail):
    with pytest.raises(PipelineError, match="some-idx has"):
        read_bytes(idx_bytes(array) + tail)


@given(ARRAYS, st.data())
def test_a_changed_header_is_refused_or_still_fits(array, data):
    content = bytearray(idx_bytes(array))
    place = data.draw(st.integers(0, 3 + 4 * array.ndim))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        read = read_bytes(bytes(content))
    except PipelineError as error:
        assert "some-idx" in str(error)
    else:
        # Another shape of the same number of bytes cannot be told from the right one.
        assert 4 + 4 * read.ndim + math.prod(read.shape) == len(content)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(content):
    try:
        read_bytes(content)
    except PipelineError as error:
        assert "some-idx" in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "starts with nothing, not 00 00 08"),
        (b"\x1f\x8b\x08\x00more", "is gzipped"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "it holds float32; store pixels as integers from 0 to 255, and labels"),
        (b"\0\0\x0a\x01\0\0\0\x01\0\0\0\0", "starts with 00 00 0a 01, not 00 00 08"),
        (b"\0\0\x08\x00", "has 0 dimensions; allowed: 1 to 8"),
        (b"\0\0\x08\xff" + bytes(2000), "has 255 dimensions"),
        (b"\0\0\x08\x03\0\0\0\x01", "ends inside its header of 16 bytes"),
        (b"\0\0\x08\x01\0\0\0\0", r"is empty: its header says \(0,\)"),
        (b"\0\0\x08\x04" + b"\xff" * 16 + b"x", "has 21 bytes, but its header"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, reason):
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=f"t10k-labels-idx1-ubyte .*{reason}"):
        read_idx(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match="nowhere is missing"):
        read_idx(tmp_path / "nowhere")


def test_the_array_can_be_written_to():
    read_bytes(idx_bytes(np.zeros((2, 3), np.uint8)))[0, 0] = 1
