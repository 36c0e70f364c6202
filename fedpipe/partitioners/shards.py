"""Scheme ``shards``: sort the samples by label, cut them into s pieces per client, deal the pieces at random.

A client of n samples gets s pieces of n / s samples (they differ by at most one). With even sizes, s = 2 and ten
classes most clients have two digits only.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3
("Non-IID"). https://arxiv.org/abs/1602.05629
"""

import numpy as np

from fedpipe.config.section import Count, Section
from fedpipe.errors import PipelineError


class Params(Section):
    """How many pieces a client gets: s."""

    shards_per_client: Count


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample: int [samples].

    Args:
      labels: int [samples].
      sizes: How many samples each client gets: int [clients].
      params: The number of pieces.
      rng: Deals the pieces.

    Raises:
      PipelineError: A client has fewer samples than pieces.
    """
    clients, pieces = len(sizes), params.shards_per_client
    smallest = int(sizes[sizes > 0].min())
    if pieces > smallest:
        raise PipelineError(
            f"params.yaml: 'partition.shards.shards_per_client' is {pieces}, but the smallest of {clients} clients has "
            f"{smallest} of the {len(labels)} samples; at most {smallest} are possible with these sizes"
        )
    piece_sizes = sizes[:, None] // pieces + (np.arange(pieces) < sizes[:, None] % pieces)
    dealt = rng.permutation(clients * pieces)
    assignment = np.empty(len(labels), np.int64)
    assignment[np.argsort(labels, kind="stable")] = np.repeat(dealt // pieces, piece_sizes.ravel()[dealt])
    return assignment
