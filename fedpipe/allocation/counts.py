"""Counting and dealing, which the schemes share: whole numbers from proportions, samples from numbers."""

import numpy as np

LEFT_OUT = -1  # the client of a sample that no client gets


def even_sizes(samples: int, clients: int) -> np.ndarray:
    """int [clients] that sum to ``samples`` and differ by at most one: the first ones get the rest of the division."""
    sizes = np.full(clients, samples // clients)
    sizes[: samples % clients] += 1
    return sizes


def draw_samples(samples: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` of ``samples`` numbered from 0, ascending: all of them without a draw, or a random choice."""
    return np.arange(samples) if count == samples else np.sort(rng.choice(samples, count, replace=False))


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to ``total`` and are nearest to ``total * shares``, by the method of largest remainders.

    Each differs from its exact value by less than 1; of equal remainders the first ones win.

    Args:
      total: What to divide.
      shares: float [n], summing to 1.
    """
    exact = total * shares
    whole = whole_part(exact)
    rest = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
    return whole


def whole_part(exact: np.ndarray) -> np.ndarray:
    """``exact`` rounded down, but 2.9999999999, which a product of floats makes of 3, is 3."""
    return np.floor(exact + 1e-9).astype(np.int64)


def deal(labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gives each client its number of samples of each class, drawn at random within the class.

    Args:
      labels: int [samples].
      counts: int [classes, clients]; the classes are those that occur in ``labels``, ascending. A class of which
        less is asked than there is leaves the others out.
      rng: The draw.

    Returns:
      The client of each sample, or `LEFT_OUT`: int [samples].
    """
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    for label, per_client in zip(np.unique(labels), counts, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        assignment[members[: per_client.sum()]] = np.repeat(np.arange(len(per_client)), per_client)
    return assignment
