"""All clients, or ``train.clients_per_round`` of them, drawn without replacement, each with the same probability."""

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.cohort import Sampling
from fedpipe.seeds import Purpose, generator

BY_SIZE = False


def sampling(settings: Train, clients: int) -> Sampling:
    """For the privacy accountant."""
    if settings.clients_per_round == "all" or settings.clients_per_round >= clients:
        return Sampling("all", clients, clients)
    return Sampling("fixed", settings.clients_per_round, clients)


def draw(settings: Train, available: np.ndarray, sizes: np.ndarray, round_number: int) -> np.ndarray:
    """The clients of a round.

    Args:
      settings: Section train of params.yaml.
      available: Ids of the clients that can be asked, ascending.
      sizes: int64 [clients], the number of samples of every client.
      round_number: 1 for the first.

    Returns:
      Ids in ascending order; all available ones if these are too few.
    """
    if settings.clients_per_round == "all" or settings.clients_per_round >= len(available):
        return available
    rng = generator(settings.seed, Purpose.COHORT, round_number)
    return np.sort(rng.choice(available, settings.clients_per_round, replace=False))
