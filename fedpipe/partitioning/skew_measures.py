"""How skewed a partition is, in numbers: of labels client by client, of sizes over all clients.

With p(c) a client's share of label c, and q(c) the share of label c in all clients' samples together:

| measure               | formula                                                     | from         | to            |
| --------------------- | ----------------------------------------------------------- | ------------ | ------------- |
| entropy               | - sum_c p(c) log2 p(c), in bits                             | 0: one label | log2(classes) |
| total variation       | 1/2 sum_c |p(c) - q(c)|                                     | 0: as all    | below 1       |
| earth mover's distance | sum_k |sum_{c<=k} p(c) - q(c)|, in labels                   | 0: as all    | classes - 1   |
| Gini of the sizes     | sum_i (2i - n - 1) x_i / (n sum_i x_i), sizes x ascending   | 0: all equal | below 1       |

They count the data set's own labels: a permutation of labels (concept skew) changes none of them.
"""

from typing import Any

import numpy as np
import pandas as pd

_DECIMALS = 6  # no last bits of a logarithm in a committed file


def client_measures(counts: pd.DataFrame) -> pd.DataFrame:
    """One row a client: client, samples, entropy, total_variation, earth_movers_distance.

    The last three are empty for a client without samples.

    Args:
      counts: Clients x labels, how many samples of each label each client has.
    """
    samples = counts.to_numpy().sum(axis=1)
    mixes = counts.to_numpy() / np.where(samples, samples, np.nan)[:, None]
    difference = mixes - global_mix(counts)
    return pd.DataFrame(
        {
            "client": counts.index,
            "samples": samples,
            "entropy": entropy(mixes),
            "total_variation": total_variation(difference),
            "earth_movers_distance": earth_movers_distance(difference),
        }
    ).round(_DECIMALS)


def global_mix(counts: pd.DataFrame) -> np.ndarray:
    """The share of each label in all clients' samples together: float64 [classes]."""
    totals = counts.to_numpy().sum(axis=0)
    return totals / totals.sum()


def entropy(mixes: np.ndarray) -> np.ndarray:
    """Entropy in bits of each row of shares [n, classes]; NaN where the row is.

    Source: Shannon 1948, "A Mathematical Theory of Communication", section 6.
    """
    return np.abs((mixes * np.log2(np.where(mixes > 0, mixes, 1))).sum(axis=1))  # abs: the sum is <= 0, also as -0.0


def total_variation(differences: np.ndarray) -> np.ndarray:
    """Total variation distance from each row p - q of differences of shares [n, classes]: 0 to 1.

    Source: Levin, Peres and Wilmer 2017, "Markov Chains and Mixing Times", proposition 4.2. What Zhao et al. 2018,
    "Federated Learning with Non-IID Data", call the earth mover's distance of two label mixes is twice this.
    """
    return np.abs(differences).sum(axis=1) / 2


def earth_movers_distance(differences: np.ndarray) -> np.ndarray:
    """Earth mover's (first Wasserstein) distance from each row p - q: 0 to classes - 1.

    The ground distance of labels a and b is |a - b|: with that, it is the area between the two cumulative mixes. So it
    means more where labels have an order (ages, ratings) than where their numbers are names (digits). With a ground
    distance of 1 between any two labels it would be the total variation.

    Source: Vallender 1974, "Calculation of the Wasserstein Distance between Probability Distributions on the Line";
    the name is Rubner et al. 2000's, "The Earth Mover's Distance as a Metric for Image Retrieval".
    """
    return np.abs(np.cumsum(differences, axis=1)).sum(axis=1)


def gini(sizes: np.ndarray) -> float:
    """Gini coefficient of the clients' sizes: 0 if all are equal, (n - 1) / n if one of n has everything.

    Source: Damgaard and Weiner 2000, "Describing Inequality in Plant Size or Fecundity", equation 1.
    """
    ascending = np.sort(sizes).astype(np.float64)
    n = len(ascending)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ascending).sum() / (n * ascending.sum()))


def summary(counts: pd.DataFrame, clients: pd.DataFrame) -> dict[str, Any]:
    """The figures of a whole partition, nested by measure; each client that has samples counts once.

    Args:
      counts: Clients x labels.
      clients: Their `client_measures`.
    """
    sizes = clients["samples"].to_numpy()
    of_all = entropy(global_mix(counts)[None])[0]
    figures: dict[str, Any] = {
        "clients": len(clients),
        "samples": int(sizes.sum()),
        "sizes": {
            "smallest": int(sizes.min()),
            "median": float(np.median(sizes)),
            "largest": int(sizes.max()),
            "gini": gini(sizes),
        },
        "entropy": {**_extremes(clients["entropy"], "mean", "min", "max"), "of_all": of_all},
        "total_variation": _extremes(clients["total_variation"], "mean", "max"),
        "earth_movers_distance": _extremes(clients["earth_movers_distance"], "mean", "max"),
    }
    return _rounded(figures)


def _extremes(values: pd.Series, *names: str) -> dict[str, float]:
    return {name: getattr(values, name)() for name in names}


def _rounded(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _rounded(value) if isinstance(value, dict) else value if isinstance(value, int) else round(float(value), 6)
        for key, value in tree.items()
    }
