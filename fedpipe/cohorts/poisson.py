"""Each client by itself with the same ``probability`` q: cohorts differ in size, and may be empty.

It is the sampling that most privacy accounting assumes; a round without clients still adds its noise. Aggregators
that divide by a number of clients divide by the expected one, q times the number of clients.

Source: McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models", section 2,
https://arxiv.org/abs/1710.06963.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.cohort import Sampling, Sizes
from fedpipe.seeds import Purpose, generator

BY_SIZE = False

MAY_BE_EMPTY = True  # a round that trains nobody is no mistake


class Params(Section):
    """``probability``: that a client is in a round."""

    probability: Annotated[float, Field(gt=0, le=1)] = 0.1


def check(settings: Train) -> None:
    """Raises ValueError for a number of clients besides the probability."""
    if settings.clients_per_round != "all":
        raise ValueError(
            "'train.cohort' poisson draws each client with 'train.poisson.probability': set 'train.clients_per_round' "
            "to all"
        )


def sizes(settings: Train, clients: int) -> Sizes:
    """Within six standard deviations of the mean."""
    q = settings.params_of("cohort").probability
    mean, off = q * clients, 6 * math.sqrt(q * (1 - q) * clients)
    smallest, largest = max(math.floor(mean - off), 0), min(math.ceil(mean + off), clients)
    return Sizes(smallest, largest, clients, "train.poisson.probability")


def sampling(settings: Train, clients: int) -> Sampling:
    """For the privacy accountant."""
    return Sampling("poisson", settings.params_of("cohort").probability * clients, clients)


def draw(settings: Train, available: np.ndarray, sizes: np.ndarray, round_number: int) -> np.ndarray:
    """The clients of a round, none perhaps."""
    drawn = generator(settings.seed, Purpose.COHORT, round_number).random(len(sizes))  # the same whoever is available
    return available[drawn[available] < settings.params_of("cohort").probability]
