"""Clients that never train: the model meets them in evaluation only, as it meets those that come after its training.

They are drawn once, from the clients that the partition has without the batches of the pool: a client that comes with a
batch trains, and no batch changes who is held out. Fewer of them are among more, with the same seed.

Source: Yuan et al. 2022, "What Do We Mean by Generalization in Federated Learning?" (the participation gap),
https://arxiv.org/abs/2110.14216.
"""

from typing import NamedTuple

import numpy as np

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.config.judge import held_out_count
from fedpipe.seeds import Purpose, generator


class Divided(NamedTuple):
    """The clients of a partition, by whether they train."""

    training: np.ndarray  # numbers, ascending
    held_out: np.ndarray

    def numbers(self) -> np.ndarray | None:
        """Those of the clients that train, for their manifest; None if all do."""
        return self.training if len(self.held_out) else None

    def assigned(self, assignment: np.ndarray, clients: np.ndarray) -> np.ndarray:
        """The client of each sample, or `LEFT_OUT` for a sample of others than ``clients``."""
        return np.where(np.isin(assignment, clients), assignment, LEFT_OUT)


def divided(requested: int | float, drawn_from: int, clients: int, seed: int) -> Divided:
    """Draws the clients that never train.

    Args:
      requested: Their number, or their share (`Evaluate.held_out_clients`).
      drawn_from: How many clients there are without those that came with batches.
      clients: How many there are.
      seed: Of the partition.
    """
    count = held_out_count(requested, drawn_from)
    held_out = np.sort(generator(seed, Purpose.HELD_OUT_CLIENTS).permutation(drawn_from)[:count])
    return Divided(np.setdiff1d(np.arange(clients), held_out), held_out)
