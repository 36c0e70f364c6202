"""Clients for the samples that came after the data set was published: a scheme's rule for them.

The published samples keep the clients that they have without a pool. Each batch is dealt on its own, and each of its
samples by its position in the batch, so that a later batch or a withdrawal moves no other sample.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NewSamples:
    """A batch to be dealt, and the published samples as they were dealt.

    Attributes:
      labels: uint8 [n].
      positions: Which of the samples that came each one is, int [n], ascending: withdrawn samples are missing.
      came: How many samples came, withdrawn ones too.
      before: How many samples were dealt after the published ones and before these, withdrawn ones too.
      published_labels: int [published], of the published samples that have a client.
      published_clients: The client of each of them, int [published].
      clients: How many clients there are.
    """

    labels: np.ndarray
    positions: np.ndarray
    came: int
    before: int
    published_labels: np.ndarray
    published_clients: np.ndarray
    clients: int

    @property
    def sizes(self) -> np.ndarray:
        """How many published samples each client has: int [clients]."""
        return np.bincount(self.published_clients, minlength=self.clients)

    @property
    def additional_sizes(self) -> np.ndarray:
        """How many of the samples that came each client gets, by `additional_sizes`: int [clients]."""
        after = additional_sizes(self.sizes, self.before + self.came)
        return after - additional_sizes(self.sizes, self.before)


def additional_sizes(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of the first ``count`` new samples each client gets, so that its size grows in proportion.

    Sizes that differ by at most one are even, and stay so. Otherwise the new samples are given by Webster's method
    (Sainte-Laguë's) one after the other: each goes to the client with the largest n_i / (s_i + 1/2), n_i its published
    and s_i its present size; of equal ones the first. So more samples never take one away from a client. Source:
    Balinski and Young 1982, "Fair Representation", chapter 4.

    Args:
      sizes: How many published samples each client has: int [clients], not all 0.
      count: The number of new samples.

    Returns:
      int [clients] with the sum ``count``.
    """
    weights = np.ones(len(sizes)) if sizes.max() - sizes.min() <= 1 else sizes.astype(np.float64)
    # Rounding moves a client's share by less than one sample, and even sizes begin at most one apart.
    most = np.ceil(count * weights / weights.sum()).astype(np.int64) + 2
    most[weights == 0] = 0
    client = np.repeat(np.arange(len(sizes)), most)
    number = np.arange(len(client)) - np.repeat(np.cumsum(most) - most, most)
    quotients = weights[client] / (sizes[client] + number + 0.5)
    order = np.lexsort((client, -quotients))
    return np.bincount(client[order[:count]], minlength=len(sizes))


def like_the_published(new: NewSamples, rng: np.random.Generator) -> np.ndarray:
    """A client for each new sample: one drawn among the published samples of its label has it already.

    So every client keeps its mix of labels and its share of them, whatever the scheme. A label that no client has is
    drawn among all published samples.

    Returns:
      int [n].
    """
    draws = rng.random(new.came)[new.positions]
    clients = np.empty(len(new.labels), np.int64)
    by_label = np.argsort(new.published_labels, kind="stable")
    in_order = new.published_labels[by_label]
    for label in np.unique(new.labels):
        first, last = np.searchsorted(in_order, [label, label + 1])
        among = by_label[first:last] if last > first else by_label
        mine = new.labels == label
        clients[mine] = new.published_clients[among[(draws[mine] * len(among)).astype(np.int64)]]
    return clients
