"""Concept skew: for some clients the same image has another label."""

import numpy as np

from fedpipe.seeds import Purpose, generator


def permutations(share: float, clients: int, classes: int, seed: int) -> dict[int, np.ndarray]:
    """For each client that has one, a permutation: its label of an image is ``permutation[true label]``.

    ``share * clients`` clients, rounded, have one, at least one if ``share`` is above 0: those with the lowest random
    numbers, one a client, which do not depend on how many clients there are. So a larger share keeps them and adds
    others. Each draws its own permutation; all but the identity are equally likely.

    Source: clients that differ by a permutation of the labels are those of Sattler et al. 2020, "Clustered Federated
    Learning: Model-Agnostic Distributed Multi-Task Optimization under Privacy Constraints", section V.
    """
    count = max(1, int(share * clients + 0.5)) if share else 0
    lots = generator(seed, Purpose.CONCEPT_CLIENTS).random(clients)
    chosen = np.argsort(lots, kind="stable")[:count]
    return {int(client): _permutation(classes, seed, int(client)) for client in np.sort(chosen)}


def _permutation(classes: int, seed: int, client: int) -> np.ndarray:
    rng = generator(seed, Purpose.LABEL_PERMUTATION, client=client)
    while True:  # with two classes, the worst case, half of the draws are the identity
        drawn = rng.permutation(classes).astype(np.uint8)
        if (drawn != np.arange(classes)).any():
            return drawn
