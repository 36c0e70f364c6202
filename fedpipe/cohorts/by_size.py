"""``train.clients_per_round`` clients, one after the other without replacement, the larger ones more often.

    P(next is k) = n_k / sum of n_j over the clients j that are left

A client without samples is never drawn. Since large clients come more often, `train.client_weighting` uniform gives
each sample about the same say; with examples, large clients count twice.

Source: Li et al. 2020, "On the Convergence of FedAvg on Non-IID Data", section 3.3 (there with replacement),
https://arxiv.org/abs/1907.02189.
"""

import numpy as np

from fedpipe.config.train import Train
from fedpipe.seeds import Purpose, generator


def check(settings: Train) -> None:
    """Raises ValueError if all clients are selected, so that there is nothing to sample."""
    if settings.clients_per_round == "all":
        raise ValueError(
            "'train.cohort' by_size draws some of the clients: set 'train.clients_per_round' to a number, or "
            "'train.cohort' to uniform"
        )


def draw(settings: Train, available: np.ndarray, sizes: np.ndarray, round_number: int) -> np.ndarray:
    """The clients of a round; all that are available and have samples if these are too few."""
    able = available[sizes[available] > 0]
    per_round = int(settings.clients_per_round)
    if per_round >= len(able):
        return able
    rng = generator(settings.seed, Purpose.COHORT, round_number)
    shares = sizes[able] / sizes[able].sum()
    return np.sort(rng.choice(able, per_round, replace=False, p=shares))
