"""Of some candidates, the clients whose loss under the current weights is highest.

    d candidates, one after the other without replacement, P(next is k) = n_k / sum of n_j over those that are left;
    of these the m = `train.clients_per_round` with the highest mean loss over their samples, ties by id

More candidates speed training up and bias it towards clients that are hard; d = m is the cohort by_size. The candidates
get the model and send a number each: one pass more over their samples, without training.

Source: Cho et al. 2022, "Towards Understanding Biased Client Selection in Federated Learning", section 4,
https://proceedings.mlr.press/v151/jee-cho22a.html.
"""

import numpy as np

from fedpipe.config.section import Count, Section
from fedpipe.config.train import Train
from fedpipe.contracts.cohort import Losses
from fedpipe.seeds import Purpose, generator


class Params(Section):
    """``candidates``: d, how many clients are measured."""

    candidates: Count = 20


def check(settings: Train) -> None:
    """Raises ValueError if there is nothing to choose."""
    candidates, per_round = settings.params_of("cohort").candidates, settings.clients_per_round
    if per_round == "all" or candidates < per_round:
        raise ValueError(
            f"'train.cohort' power_of_choice chooses among 'train.power_of_choice.candidates' ({candidates}): set "
            f"'train.clients_per_round' to a number up to {candidates}"
        )


def draw_by_losses(
    settings: Train, available: np.ndarray, sizes: np.ndarray, round_number: int, losses: Losses
) -> np.ndarray:
    """The clients of a round; all that are available and have samples if these are too few.

    ``losses`` measures clients: their mean losses under the weights before the round.
    """
    able = available[sizes[available] > 0]
    per_round, count = int(settings.clients_per_round), settings.params_of("cohort").candidates
    if per_round >= len(able):
        return able
    if count < len(able):
        rng = generator(settings.seed, Purpose.COHORT, round_number)
        able = np.sort(rng.choice(able, count, replace=False, p=sizes[able] / sizes[able].sum()))
    return np.sort(able[np.argsort(-losses(able), kind="stable")[:per_round]])
