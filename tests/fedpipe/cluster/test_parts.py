"""Which parts of chunks workers get: all groups once, whole chunks while there is much to do, small ones at the end."""

import numpy as np
import pytest

from fedpipe.cluster.parts import Chunk, Part, Waiting
from fedpipe.runtime.engine import CHUNK, group_sizes


def chunks_of(clients: int) -> list[Chunk]:
    """The chunks of a cohort, as the engine makes them."""
    groups = np.split(np.arange(clients), np.cumsum(group_sizes(clients))[:-1])
    return [Chunk(groups[start : start + CHUNK]) for start in range(0, len(groups), CHUNK)]


def waiting_with(chunks: list[Chunk]) -> Waiting:
    waiting = Waiting()
    waiting.begin(sum(chunk.clients_left() for chunk in chunks))
    for chunk in chunks:
        waiting.add(chunk)
    return waiting


def taken(waiting: Waiting, workers: int) -> list[Part]:
    """All parts, which equal workers take in turn."""
    actual = []
    while waiting:
        part = waiting.take("one", ["two"], 1 / workers)
        assert part is not None
        actual.append(part)
    return actual


@pytest.mark.parametrize("clients", [1, 24, 100, 600, 3001])
def test_one_worker_gets_whole_chunks(clients: int) -> None:
    chunks = chunks_of(clients)
    parts = taken(waiting_with(chunks), 1)
    assert [part.groups for part in parts] == [chunk.groups for chunk in chunks]
    assert all(part.is_whole and not part.one_by_one for part in parts)


@pytest.mark.parametrize("workers", [2, 3, 32])
@pytest.mark.parametrize("clients", [1, 24, 100, 600, 3001])
def test_every_group_is_handed_out_once_and_added_in_order(clients: int, workers: int) -> None:
    chunks = chunks_of(clients)
    parts = taken(waiting_with(chunks), workers)
    for part in parts:
        assert not part.chunk.is_done
        part.sums = [[group] for group in part.groups] if part.one_by_one else [part.groups]
    for chunk in chunks:
        assert [part.one_by_one for part in chunk.parts] == [False, *[True] * (len(chunk.parts) - 1)]
        assert chunk.is_done
    added = [array for chunk in chunks for leaves in chunk.sums() for array in leaves]
    assert np.concatenate(added).tolist() == list(range(clients))
    sizes = [sum(map(len, part.groups)) for part in parts]
    if clients >= 100:
        assert max(sizes) <= max(clients / workers, 10) and sizes[-1] <= 10
    if clients == 3001 and workers == 2:
        assert sum(part.is_whole for part in parts) > len(chunks) / 2


def test_a_part_that_failed_goes_to_another_worker() -> None:
    waiting = waiting_with(chunks_of(24))
    part = waiting.take("one", ["two"], 1.0)
    assert part is not None
    part.failed_at.append("one")
    waiting.give_back([part])
    assert waiting.take("one", ["two"], 1.0) is None
    assert waiting.take("two", ["one"], 1.0) is part
    waiting.give_back([part])
    assert waiting.take("one", [], 1.0) is part  # there is nobody else
    part.failed_at.append("two")
    waiting.give_back([part])
    assert waiting.take("one", ["two"], 1.0) is part  # it failed everywhere


def test_parts_come_back_before_all_others_in_their_order() -> None:
    waiting = waiting_with(chunks_of(600))
    first, second = waiting.take("one", ["two"], 0.5), waiting.take("two", ["one"], 0.5)
    assert first is not None and second is not None
    waiting.give_back([first, second])
    assert [waiting.take("three", [], 0.5), waiting.take("three", [], 0.5)] == [first, second]


def test_a_new_pass_forgets_what_was_left() -> None:
    waiting = waiting_with(chunks_of(24))
    waiting.begin(5)
    assert not waiting and waiting.take("one", [], 1.0) is None
