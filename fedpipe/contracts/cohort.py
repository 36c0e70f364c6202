"""The contract of fedpipe/cohorts: the clients of a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.choice import ContractError, TrainChoice, constant, function
from fedpipe.contracts.registry import Registry

Losses = Callable[[np.ndarray], np.ndarray]  # (ids) -> the mean loss of each of these clients


class Sizes(NamedTuple):
    """Bounds on the clients of a round: the result of the function ``sizes`` of a cohort's file."""

    smallest: int  # lower bound, missed with negligible probability
    largest: int  # upper bound, exceeded with negligible probability
    most: int  # no round has more
    key: str  # of params.yaml, that makes rounds larger and smaller


def exactly(clients: int, key: str) -> Sizes:
    """Of rounds that all have ``clients``."""
    return Sizes(clients, clients, clients, key)


class Sampling(NamedTuple):
    """How clients come into a cohort.

    ``all``: the same ones in every round, every client or those of a list. ``fixed``: ``expected`` of ``clients``,
    drawn without replacement in each round. ``poisson``: each client by itself with the same probability, which makes
    ``expected`` on average.
    """

    kind: Literal["all", "fixed", "poisson"]
    expected: float  # clients that a round asks, if none of them is missing
    clients: int  # altogether

    @property
    def probability(self) -> float:
        """That a client is in a round."""
        return self.expected / self.clients


@dataclass(frozen=True, kw_only=True)
class ClientSampler(TrainChoice):
    """A file of ``fedpipe/cohorts``: ``draw`` or ``draw_by_losses``."""

    draw: Callable[[Train, np.ndarray, np.ndarray, int], np.ndarray] | None = function(
        "settings, available, sizes, round_number", "The ids of the round's clients, ascending.", None
    )
    draw_by_losses: Callable[[Train, np.ndarray, np.ndarray, int, Losses], np.ndarray] | None = function(
        "settings, available, sizes, round_number, losses",
        "In place of `draw`: also gets a function that measures clients (`power_of_choice.py`).",
        None,
    )
    sizes: Callable[[Train, int], Sizes] | None = function(
        "settings, clients", "The `Sizes` of rounds, if they are not those of `clients_per_round`.", None
    )
    sampling: Callable[[Train, int], Sampling] | None = function(
        "settings, clients", "The `Sampling` that the privacy accountant assumes.", None
    )
    MAY_BE_EMPTY: bool = constant(False, "A round without clients is no mistake.")
    BY_SIZE: bool = constant(True, "The draw reads `sizes`, which the sites of a federation may not tell exactly.")

    def _check_names(self) -> None:
        if (self.draw is None) == (self.draw_by_losses is None):
            raise ContractError("must define one of 'draw' and 'draw_by_losses'")
        if self.draw_by_losses is not None and self.sampling is not None:
            raise ContractError("defines 'draw_by_losses' and 'sampling', but no accountant knows draws by losses")

    @property
    def needs_losses(self) -> bool:
        """Whether the draw measures clients."""
        return self.draw_by_losses is not None


COHORTS = Registry(Train.CHOICES["cohort"], ClientSampler)
