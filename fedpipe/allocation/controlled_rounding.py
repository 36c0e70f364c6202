"""Rounding a table to whole numbers that keep to the sums of its rows, and to bounds on those of its columns."""

import numpy as np

from fedpipe.allocation.counts import whole_part


def controlled_rounding(
    sizes: np.ndarray, mixes: np.ndarray, supply: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """``sizes * mixes``, each rounded down or up, so that client i has sizes_i in all and class c at most supply_c.

    The whole parts come first. What a client then lacks it takes of the classes with its largest fractions (of equal
    ones at random), one of each, while the class lasts. Where it does not last, clients exchange what they took: a
    maximum flow. Because the exact numbers are a flow too, a whole one exists if they keep to the supply.

    Source: Cox 1987, "A Constructive Procedure for Unbiased Controlled Rounding", for the problem.

    Args:
      sizes: int [clients].
      mixes: float [clients, classes], rows summing to 1.
      supply: int [classes].
      rng: Decides between equal fractions.

    Returns:
      int [clients, classes]. If the supply is not enough the sum of a row is less than its size.
    """
    exact = sizes[:, None] * mixes
    whole = whole_part(exact)
    over = np.flatnonzero(whole.sum(axis=0) > supply)
    whole[:, over] = 0  # the caller sees what is lacking
    left, lacking = supply - whole.sum(axis=0), sizes - whole.sum(axis=1)
    possible = (mixes > 0) & (left > 0)
    taken = _take_largest(np.round(exact - whole, 6) + 1e-7 * rng.random(exact.shape), possible, lacking, left)
    lacking, left = lacking - taken.sum(axis=1), left - taken.sum(axis=0)
    if not len(over) and lacking.any():
        taken = _exchange(taken, mixes > 0, lacking, left)
    return whole + taken


def _take_largest(fractions: np.ndarray, possible: np.ndarray, lacking: np.ndarray, left: np.ndarray) -> np.ndarray:
    """bool [clients, classes]: each client's ``lacking`` largest fractions; of a class the ``left`` largest."""
    order = np.argsort(np.where(possible, -fractions, np.inf), axis=1, kind="stable")
    taken = np.zeros(possible.shape, bool)
    np.put_along_axis(taken, order, np.arange(possible.shape[1]) < lacking[:, None], axis=1)
    taken &= possible
    for label in range(len(left)):
        takers = np.flatnonzero(taken[:, label])
        late = takers[np.argsort(-fractions[takers, label], kind="stable")[left[label] :]]
        taken[late, label] = False
    return taken


def _exchange(taken: np.ndarray, possible: np.ndarray, lacking: np.ndarray, left: np.ndarray) -> np.ndarray:
    """``taken`` changed so that as few samples as can be are lacking: a maximum flow from clients to classes.

    The nodes are a source, the clients, the classes and a sink. A client may take one more of a possible class, and may
    give back one that it took.
    """
    # Here only: every stage imports the schemes that have a section, and few partitions need it.
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import maximum_flow  # type: ignore[import-untyped]

    clients, classes = taken.shape
    client, label = np.nonzero(possible)
    forward = ~taken[client, label]
    of_client, of_class, sink = 1 + client, 1 + clients + label, 1 + clients + classes
    needy, open_ = np.flatnonzero(lacking), np.flatnonzero(left)
    tails = [np.where(forward, of_client, of_class), np.zeros_like(needy), 1 + clients + open_]
    heads = [np.where(forward, of_class, of_client), 1 + needy, np.full_like(open_, sink)]
    capacities = [np.ones_like(client), lacking[needy], left[open_]]
    network = coo_array(
        (np.concatenate(capacities).astype(np.int32), (np.concatenate(tails), np.concatenate(heads))),
        shape=(sink + 1, sink + 1),
    )
    flow = maximum_flow(network.tocsr(), 0, sink).flow.tocsr()
    return taken + flow[1 : 1 + clients, 1 + clients : sink].toarray()
