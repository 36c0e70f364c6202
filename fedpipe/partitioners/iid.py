"""Scheme ``iid``: a seeded shuffle of the samples, dealt out.

Every client's label mix is the data set's but for chance. A batch of new samples is shuffled and dealt on its own, and
sizes grow in proportion.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3
("IID"). https://arxiv.org/abs/1602.05629
"""

import numpy as np

from fedpipe.allocation.new_samples import NewSamples
from fedpipe.config.section import Section


class Params(Section):
    """None."""


def assign(_: np.ndarray, sizes: np.ndarray, __: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample: int [samples].

    Args:
      sizes: How many samples each client gets: int [clients].
      rng: The shuffle.
    """
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))


def assign_new(new: NewSamples, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample of a batch: int [samples]."""
    return rng.permutation(np.repeat(np.arange(new.clients), new.additional_sizes))[new.positions]
