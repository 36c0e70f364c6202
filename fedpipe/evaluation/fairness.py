"""How evenly a model serves the clients."""

from typing import Any

import numpy as np


def spread(accuracies: np.ndarray, clusters: np.ndarray | None = None) -> dict[str, Any]:
    """How an accuracy is spread over the clients; one without samples (NaN) does not count.

    Mean, worst, the percentiles 10, 50 and 90 (linear between clients), the variance (over the clients, divided by
    their number), Jain's index; with ``clusters`` (int [clients]) also clients, mean and worst of each.
    """
    has_samples = ~np.isnan(accuracies)
    known = accuracies[has_samples]
    if not len(known):
        return {}
    figures: dict[str, Any] = {
        "mean": float(known.mean()),
        "worst": float(known.min()),
        **{f"percentile_{10 * n}": float(np.percentile(known, 10 * n)) for n in (1, 5, 9)},
        "variance": float(known.var()),
        "jain": jain_index(known),
    }
    if clusters is not None:
        figures["by_cluster"] = {
            str(number): {
                "clients": len(mine),
                "mean": float(mine.mean()),
                "worst": float(mine.min()),
            }
            for number in np.unique(clusters[has_samples])
            for mine in [accuracies[has_samples & (clusters == number)]]
        }
    return figures


def jain_index(values: np.ndarray) -> float:
    """Jain's fairness index: J = (sum_k x_k)^2 / (n sum_k x_k^2), 1 if all are equal, 1/n if one has everything.

    1 for zeros only. Source: Jain, Chiu, Hawe 1984, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems", DEC-TR-301, https://arxiv.org/abs/cs/9809099.
    """
    squares = float(np.square(values).sum())
    return float(values.sum()) ** 2 / (len(values) * squares) if squares else 1.0
