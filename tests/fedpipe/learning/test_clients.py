"""What clients keep: files that are whole whenever somebody reads them."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.learning.clients import ClientReader
from fedpipe.learning.work_request import WorkRequest

SIZE = 100_000
Make = Callable[[list[int]], Path]


class OneClient:
    """Client 0, which writes and reads files as in a training."""

    def __init__(self, shards: Path, folder: Path) -> None:
        import tensorflow as tf

        reader = ClientReader(shards, folder)
        first = (tf.zeros([SIZE]),)

        @tf.function(autograph=False)
        def write(round_number: object, values: object) -> object:
            request = WorkRequest.unpack(tf.constant([0, -1, 1000, 3]))
            _, keep = reader.read(request, round_number, first)
            with tf.control_dependencies(keep((values,), True)):
                return tf.constant(0)

        @tf.function(autograph=False)
        def read(last: object) -> object:
            request = WorkRequest.unpack(tf.stack([0, last, 1000, 3]))
            return reader.read(request, last + 1, first)[0].kept[0]  # type: ignore[operator,index]

        self.write: Callable[[int, np.ndarray], object] = lambda number, values: write(tf.constant(number), values)
        self.read: Callable[[int], np.ndarray] = lambda last: read(tf.constant(last)).numpy()


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).normal(size=SIZE).astype(np.float32)


def test_a_file_has_the_bits_that_were_kept(make_shards: Make, tmp_path: Path, values: np.ndarray) -> None:
    """Also in a folder whose name looks like a pattern; and what is written again is read again."""
    values[:4] = np.nan, -0.0, 1e-42, np.inf
    folder = tmp_path / "a [1]*? \\b"
    folder.mkdir()
    client = OneClient(make_shards([2]), folder)
    for content in (values, -values):
        client.write(7, content)
        assert client.read(7).tobytes() == content.tobytes()
    assert [path.name for path in folder.iterdir()] == ["0.7"]


def test_a_file_that_is_written_again_is_whole_at_any_time(
    make_shards: Make, tmp_path: Path, values: np.ndarray
) -> None:
    """As by a worker that was taken for lost and wakes up, while another one reads."""
    client = OneClient(make_shards([2]), tmp_path)
    client.write(1, values)
    client.read(1)
    done, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        while not done.is_set():
            client.write(1, values)
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        whole = [client.read(1).tobytes() == values.tobytes() for _ in range(300)]
    finally:
        done.set()
        writer.join()
    assert all(whole) and written > 30
