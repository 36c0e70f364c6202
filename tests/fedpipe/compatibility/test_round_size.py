"""How many clients the rounds of each cohort have; test_loading.py has what does not go with their number."""

from typing import Any

import numpy as np
import pytest

from fedpipe.compatibility import round_size
from fedpipe.contracts.cohort import Sizes, exactly
from fedpipe.runtime.cohort import cohort
from tests.fedpipe.training import train_settings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, exactly(600, "train.clients_per_round")),
        ({"clients_per_round": 20}, exactly(20, "train.clients_per_round")),
        ({"cohort": "by_size", "clients_per_round": 20}, exactly(20, "train.clients_per_round")),
        ({"cohort": "power_of_choice", "clients_per_round": 7}, exactly(7, "train.clients_per_round")),
        ({"cohort": "fixed", "fixed": {"ids": [3, 5]}}, exactly(2, "train.fixed.ids")),
        # 60 on average, with a standard deviation of 7.35; 6 with 2.44; 600 with 0
        ({"cohort": "poisson"}, Sizes(15, 105, 600, "train.poisson.probability")),
        ({"cohort": "poisson", "poisson": {"probability": 0.01}}, Sizes(0, 21, 600, "train.poisson.probability")),
        ({"cohort": "poisson", "poisson": {"probability": 1.0}}, exactly(600, "train.poisson.probability")),
    ],
)
def test_how_many_are_asked(changes: dict[str, Any], expected: Sizes) -> None:
    assert round_size.cohort_sizes(train_settings(**changes), 600) == expected


def test_poisson_draws_within_its_sizes() -> None:
    settings = train_settings(cohort="poisson")
    sizes = [len(cohort(settings, np.full(600, 7), number).clients) for number in range(1, 2001)]
    smallest, largest, _, _ = round_size.cohort_sizes(settings, 600)
    assert smallest < min(sizes) < 45 and 75 < max(sizes) < largest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"cohort": "fixed", "fixed": {"ids": [1, 4, 9]}, "aggregator": "krum"},
            "krum needs 5 clients in a round, and a round has 3: make rounds larger with 'train.fixed.ids', "
            "or lower 'train.krum.attackers'",
        ),
        (
            {"clients_per_round": 4, "aggregator": "krum"},
            "a round has 4: make rounds larger with 'train.clients_per_round', or lower 'train.krum.",
        ),
        (
            {
                "clients_per_round": 9,
                "aggregator": "krum",
                "availability": {"report_goal": 4, "devices": {"seconds_per_sample": 1.0}},
            },
            "a round has 4: make rounds larger with 'train.availability.report_goal', or lower ",
        ),
    ],
)
def test_too_few_whatever_the_number_of_clients(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        train_settings(**changes)
