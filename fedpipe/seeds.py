"""Randomness without global state: every draw comes from (seed, purpose, round, client).

A stream depends on nothing else, so a resumed or distributed run draws what an uninterrupted one would.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The purpose of a stream; the numbers are part of the bits and never change."""

    PARTITION = 1
    INITIAL_WEIGHTS = 2
    COHORT = 3
    SHUFFLE = 4
    DROPOUT = 5
    CLIENT = 6  # what an algorithm or an aggregator draws at a client
    SERVER = 7  # and at the server
    ATTACKERS = 8  # which clients are attackers
    ATTACK = 9  # what an attacker draws
    COMPRESSION = 10
    AVAILABILITY = 11
    NOISE = 12  # of differential privacy
    FEATURES = 21
    TRAIN_NOISE = 22
    TEST_NOISE = 23
    CONCEPT_CLIENTS = 24
    LABEL_PERMUTATION = 25
    CLIENT_TEST = 26
    VALIDATION = 27
    NEW_SAMPLES = 28  # clients of the samples that came after the data set was published
    TEST_ROWS = 29  # rows of a table that are test samples
    CLUSTERS = 31  # first weights of each cluster's model (IFCA)
    ALL_SAMPLES = 35  # orders of the samples of all clients, for a learner that has them
    PERSONALISE = 32  # orders of samples while a model is fine-tuned for its client
    AUGMENTATION = 33  # what augmentation layers draw at a client
    HELD_OUT_CLIENTS = 34  # clients that never train


def generator(seed: int, purpose: Purpose, round_number: int = 0, client: int = 0) -> np.random.Generator:
    """A generator of its own for one purpose, round and client."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(purpose), round_number, client]))
