"""Which clients attack: a share of them, drawn from the seed, the same in every round."""

import numpy as np

from fedpipe.config.train import Train
from fedpipe.seeds import Purpose, generator


def attackers(settings: Train, clients: int) -> np.ndarray:
    """bool [clients]: True for each of round(``train.attackers`` x clients) clients."""
    chosen = generator(settings.seed, Purpose.ATTACKERS).permutation(clients)[: round(settings.attackers * clients)]
    mask = np.zeros(clients, bool)
    mask[chosen] = True
    return mask
