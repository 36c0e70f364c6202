"""Clients that never train: drawn once from the seed, fewer of them among more, and none that came later."""

import numpy as np
import pytest

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.partitioning.held_out_clients import divided


@pytest.mark.parametrize("requested", [60, 0.1])
def test_a_number_or_a_share_divides_the_clients(requested: float) -> None:
    training, held_out = divided(requested, 600, 600, 7)
    assert len(held_out) == 60 and (np.diff(held_out) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([training, held_out])), np.arange(600))


def test_draws_repeat_and_fewer_are_among_more() -> None:
    few, many, other = (divided(requested, 600, 600, seed).held_out for requested, seed in ((20, 7), (60, 7), (20, 8)))
    assert set(few) < set(many) and set(few) != set(other)
    np.testing.assert_array_equal(few, divided(20, 600, 600, 7).held_out)


def test_clients_of_batches_train() -> None:
    before, after = divided(0.5, 10, 10, 7), divided(0.5, 10, 14, 7)
    np.testing.assert_array_equal(before.held_out, after.held_out)
    assert {10, 11, 12, 13} < set(after.training)


def test_without_any_all_train_and_numbers_are_not_written() -> None:
    everybody = divided(0, 5, 5, 7)
    assert everybody.numbers() is None and everybody.training.tolist() == [0, 1, 2, 3, 4]
    some = divided(2, 5, 5, 7)
    assignment = np.array([0, 1, 2, 3, 4, LEFT_OUT])
    trained = some.assigned(assignment, some.training)
    assert set(trained) - {LEFT_OUT} == set(some.training) and (trained == LEFT_OUT).sum() == 3
