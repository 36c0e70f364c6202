"""Scheme ``pathological``: each client has samples of exactly k classes.

With C classes, client i has by ``choice``

    deterministic:        the classes i, i + 1, ..., i + k - 1 (mod C);
    first_deterministic:  the class i mod C, and k - 1 others at random;
    random:               k at random.

A random choice is drawn anew, `_TRIES` times at the most, until every class has a client (else its samples would go to
nobody) and no class has more clients than samples.

Each class is split evenly among the clients that have it, and the sizes of the clients follow from that. With
``keep_sizes`` client i has exactly the n_i samples that ``partition.quantity`` gives it instead. The shares of its
classes are then a_i b_c, with factors a and b such that the sizes of clients and classes are met (iterative
proportional fitting), rounded. A choice of classes without such factors counts as one that did not
work out.

Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study", section "Quantity-based
label imbalance", where the choice is first_deterministic (https://arxiv.org/abs/2102.02079); the three choices are
those of flwr-datasets' ``PathologicalPartitioner`` (https://flower.ai/docs/datasets/). The fitting is Deming and
Stephan 1940, "On a Least Squares Adjustment of a Sampled Frequency Table When the Expected Marginal Totals are Known"
(https://doi.org/10.1214/aoms/1177731829).
"""

from typing import Literal

import numpy as np

from fedpipe.allocation.controlled_rounding import controlled_rounding
from fedpipe.allocation.counts import deal, even_sizes
from fedpipe.config.section import Count, Section
from fedpipe.errors import PipelineError

_TRIES = 100
_FITTING_STEPS = 1000  # at the most; a choice that works takes some tens
_STEPS_TO_IMPROVE = 20

FOR_GIVEN_SIZES = "'pathological.keep_sizes' to true"


class Params(Section):
    """How many classes a client has, how they are chosen, and whether the clients keep to given sizes."""

    classes_per_client: Count
    choice: Literal["random", "deterministic", "first_deterministic"]
    keep_sizes: bool


def decides_sizes(params: Params) -> bool:
    """Unless it keeps to the given ones."""
    return not params.keep_sizes


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample: int [samples].

    Args:
      labels: int [samples].
      sizes: How many samples each client gets, int [clients]; without ``keep_sizes`` only their number counts.
      params: The classes of a client.
      rng: Chooses classes, rounds and deals.

    Raises:
      PipelineError: There are fewer than k classes, or the clients are too few to have all classes, or too many for
        the samples of a class, or the sizes cannot be made of the classes.
    """
    clients, k, choice = len(sizes), params.classes_per_client, params.choice
    class_sizes = np.unique(labels, return_counts=True)[1]
    if k > len(class_sizes):
        raise PipelineError(
            f"params.yaml: 'partition.pathological.classes_per_client' is {k}, but the samples have {len(class_sizes)} "
            f"classes; at most {len(class_sizes)} are possible"
        )
    if params.keep_sizes and sizes.min() < k:
        raise PipelineError(
            f"params.yaml: 'partition.quantity' gives a client {sizes.min()} samples, which cannot be of {k} classes "
            f"('partition.pathological.classes_per_client'); set the 'min_size' of that quantity to {k} or more, give "
            "larger sizes, or take fewer clients"
        )
    for _try in range(1 if choice == "deterministic" else _TRIES):
        has = _choose(clients, len(class_sizes), k, choice, rng)
        users = has.sum(axis=0)
        if (users > 0).all() and (users <= class_sizes).all():
            if params.keep_sizes:
                counts = _split_within(class_sizes, sizes, has, rng)
            else:
                counts = _split_evenly(class_sizes, has)
            if counts is not None:
                return deal(labels, counts, rng)
    raise _impossible(class_sizes, users, clients, params)


def _choose(clients: int, classes: int, k: int, choice: str, rng: np.random.Generator) -> np.ndarray:
    """bool [clients, classes]: which client has which class, k a row."""
    client = np.arange(clients)
    if choice == "deterministic":
        chosen = (client[:, None] + np.arange(k)) % classes
    else:
        lots = rng.random((clients, classes))
        if choice == "first_deterministic":
            lots[client, client % classes] = -1.0
        chosen = np.argsort(lots, axis=1, kind="stable")[:, :k]
    has = np.zeros((clients, classes), bool)
    has[client[:, None], chosen] = True
    return has


def _split_evenly(class_sizes: np.ndarray, has: np.ndarray) -> np.ndarray:
    """int [classes, clients]: each class's samples over those that have it."""
    counts = np.zeros(has.T.shape, np.int64)
    for row, size, owners in zip(counts, class_sizes, has.T, strict=True):
        row[owners] = even_sizes(size, owners.sum())
    return counts


def _split_within(
    class_sizes: np.ndarray, sizes: np.ndarray, has: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """int [classes, clients] with the given sums over classes and over clients, at least 1 where ``has``; or None."""
    # One sample of each class that a client has is its own; the rest is fitted.
    rest, supply = sizes - has.sum(axis=1), class_sizes - has.sum(axis=0)
    needy = rest > 0
    shares = has[needy] * np.maximum(supply, 1e-9)
    off_before = np.inf
    for step in range(_FITTING_STEPS):
        shares *= (rest[needy] / shares.sum(axis=1))[:, None]
        dealt = shares.sum(axis=0)
        off = np.abs(dealt - supply).max()
        if off < 1e-6:
            break
        if step % _STEPS_TO_IMPROVE == 0:
            if off > 0.9 * off_before:  # it converges, but not to the required sums
                return None
            off_before = off
        shares *= supply / np.maximum(dealt, 1e-300)
        if (shares.sum(axis=1) < 1e-300).any():  # all that a client could have belongs to others
            return None
    mixes = has / has.sum(axis=1, keepdims=True)
    mixes[needy] = shares / shares.sum(axis=1, keepdims=True)
    counts = controlled_rounding(rest, mixes, supply, rng)
    return (has + counts).T if counts.sum() == rest.sum() else None


def _impossible(class_sizes: np.ndarray, users: np.ndarray, clients: int, params: Params) -> PipelineError:
    """The fault of the last choice, and the possible values."""
    k, choice, classes = params.classes_per_client, params.choice, len(class_sizes)
    request = f"params.yaml: scheme pathological with {clients} clients of {k} classes, chosen {choice}"
    tries = "" if choice == "deterministic" else f" in any of {_TRIES} draws"
    if (users == 0).any():
        return PipelineError(
            f"{request}, leaves some of the {classes} classes to no client{tries}, so that their samples would go to "
            f"nobody; first_deterministic gives out all classes from {classes} clients on, deterministic from "
            f"{classes - k + 1} on"
        )
    if (users <= class_sizes).all():
        return PipelineError(
            f"{request}, did not work out{tries}: the sizes that 'partition.quantity' gives cannot be made of these "
            f"classes; raise 'partition.pathological.classes_per_client' (with {classes} all sizes work), or set "
            "'partition.scheme' to shards or inner_dirichlet"
        )
    scarce = int(np.argmax(users - class_sizes))
    return PipelineError(
        f"{request}, did not work out{tries}: {users[scarce]} clients have a class with {class_sizes[scarce]} samples "
        f"and need at least one each; with choice deterministic {_possible(class_sizes, clients, k)} would do"
    )


def _possible(class_sizes: np.ndarray, clients: int, k: int) -> str:
    """The request that the choice deterministic can meet with as many clients, or as many classes each, as possible."""
    classes = len(class_sizes)
    most = classes * (int(class_sizes.min()) // k + 1)  # from here on the smallest class has too many clients
    fewer = next((n for n in range(min(clients, most), 0, -1) if _deterministic_fits(class_sizes, n, k)), None)
    lower = next((n for n in range(k - 1, 0, -1) if _deterministic_fits(class_sizes, clients, n)), None)
    options = [f"'partition.clients' {fewer}"] if fewer else []
    options += [f"'partition.pathological.classes_per_client' {lower}"] if lower else []
    return " or ".join(options) or f"'partition.clients' {classes} of 1 class each"


def _deterministic_fits(class_sizes: np.ndarray, clients: int, k: int) -> bool:
    first = np.bincount(np.arange(clients) % len(class_sizes), minlength=len(class_sizes))
    users = sum((np.roll(first, shift) for shift in range(k)), np.zeros_like(first))
    return bool((users > 0).all() and (users <= class_sizes).all())
