"""Who takes part: a function of the seed and the round alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe import params
from fedpipe.errors import PipelineError
from fedpipe.runtime.cohort import cohort, require_clients


def sampled(settings: params.Train, size: object, seed: int = 1) -> params.Train:
    return settings.model_copy(update={"clients_per_round": size, "seed": seed})


def ids(settings: params.Train, clients: int, number: int) -> list[int]:
    return cohort(settings, np.full(clients, 7), number).clients.tolist()


def test_all(settings: params.Train) -> None:
    assert ids(sampled(settings, "all"), 5, 3) == [0, 1, 2, 3, 4]


@given(data=st.data(), clients=st.integers(1, 300), seed=st.integers(0, 2**32 - 1), number=st.integers(1, 1000))
def test_sampled(data: st.DataObject, clients: int, seed: int, number: int) -> None:
    size = data.draw(st.integers(1, clients))
    settings = params.Train.model_construct(clients_per_round=size, seed=seed, cohort="uniform", attack="no_attack")
    chosen = ids(settings, clients, number)
    assert len(set(chosen)) == size and chosen == sorted(chosen) and set(chosen) <= set(range(clients))
    assert chosen == ids(settings, clients, number)


def test_all_of_the_work(settings: params.Train) -> None:
    assert cohort(sampled(settings, 3), np.full(5, 7), 1).requests.work.tolist() == [1000, 1000, 1000]


def test_rounds_and_seeds_differ(settings: params.Train) -> None:
    draws = {tuple(ids(sampled(settings, 10, seed), 600, number)) for seed in (1, 2) for number in range(1, 21)}
    assert len(draws) == 40


def test_more_than_there_are(settings: params.Train) -> None:
    require_clients(sampled(settings, 5), 5)
    with pytest.raises(
        PipelineError, match=r"'train.clients_per_round' is 6, but there are 5 clients; give a number up"
    ):
        require_clients(sampled(settings, 6), 5)
