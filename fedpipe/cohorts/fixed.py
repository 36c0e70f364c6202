"""The same given clients in every round, such as the hospitals of a study among all that have data."""

from typing import Annotated

import numpy as np
from pydantic import Field

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts.cohort import Sampling, Sizes, exactly

BY_SIZE = False


class Params(Section):
    """``ids``: the clients, counted from 0."""

    ids: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)

    def check_chosen(self) -> None:
        """Raises ValueError if there are no ids, or one comes twice."""
        if not self.ids:
            raise ValueError("'ids' is empty: list the clients of each round")
        twice = sorted({each for each in self.ids if self.ids.count(each) > 1})
        if twice:
            raise ValueError(f"'ids' has {twice[0]} more than once: list each client once")


def check(settings: Train) -> None:
    """Raises ValueError for a number of clients besides the ids."""
    if settings.clients_per_round != "all":
        raise ValueError(
            "'train.cohort' fixed asks the clients of 'train.fixed.ids': set 'train.clients_per_round' to all"
        )


def check_clients(settings: Train, clients: int) -> None:
    """Raises ValueError for an id that no client has."""
    highest = max(settings.params_of("cohort").ids)
    if highest >= clients:
        raise ValueError(
            f"'train.fixed.ids' has {highest}, but there are {clients} clients; give ids from 0 to {clients - 1}"
        )


def sizes(settings: Train, clients: int) -> Sizes:
    """One client for each id."""
    return exactly(len(settings.params_of("cohort").ids), "train.fixed.ids")


def sampling(settings: Train, clients: int) -> Sampling:
    """For the privacy accountant: nothing is hidden by sampling, and the other clients' data are never used."""
    return Sampling("all", len(settings.params_of("cohort").ids), clients)


def draw(settings: Train, available: np.ndarray, sizes: np.ndarray, round_number: int) -> np.ndarray:
    """Those of the ids that are available."""
    return available[np.isin(available, settings.params_of("cohort").ids)]
