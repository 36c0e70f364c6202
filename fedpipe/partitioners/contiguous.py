"""Scheme ``contiguous``: client i has the i-th run of consecutive samples.

Of 60,000 samples over 600 clients of even sizes, client i has the samples 100 i to 100 i + 99. Samples that are left
out are the last ones. Nothing is drawn.

A batch of new samples is dealt in the same way: client i gets the i-th run of it, of a size in proportion to the
client's. Of 2,000 new samples over these 600 clients, the first 200 clients get four, the others three, and the next
batch begins with the others.

Source: the baseline recipe, whose clients are runs of 100 MNIST images.
"""

import numpy as np

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.allocation.new_samples import NewSamples
from fedpipe.config.section import Section

SEES_ALL_SAMPLES = True


class Params(Section):
    """None."""


def assign(labels: np.ndarray, sizes: np.ndarray, _: Params, __: np.random.Generator) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`: int [samples].

    Args:
      labels: int [samples]; only their number counts.
      sizes: How many samples each client gets: int [clients].
    """
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    assignment[: sizes.sum()] = np.repeat(np.arange(len(sizes)), sizes)
    return assignment


def assign_new(new: NewSamples, _: np.random.Generator) -> np.ndarray:
    """The client of each sample of a batch: int [samples]."""
    return np.repeat(np.arange(new.clients), new.additional_sizes)[new.positions]
