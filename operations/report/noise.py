"""How large a difference of two runs may be by chance, so that no report calls it better or worse.

Test images, training samples and clients count as drawn at random: a difference is within noise if the interval that
holds it with a probability of 95 % (by the normal approximation) has 0 in it. Both runs are treated as independent, so
a difference that the paired tests of `make promote` find may be within noise here. A loss has no interval, since
no table has it for each image: a change of less than 1 % is within noise.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from operations.report.runs import Run, samples_column

_NORMAL_95 = 1.96
_LOSS_SHARE = 0.01
_QUANTILES = {"median": 0.5, "percentile_10": 0.1, "percentile_50": 0.5, "percentile_90": 0.9}
_OF_ALL_CLIENTS = ("mean", "variance", "jain")


def of_shares(shares: Sequence[float], counts: Sequence[float]) -> float:
    """Noise of the difference of two shares, each of so many images."""
    if min(counts, default=0) <= 0 or not all(0 <= share <= 1 for share in shares):  # a measure of numbers is no share
        return 0.0
    return _NORMAL_95 * math.sqrt(sum(p * (1 - p) / n for p, n in zip(shares, counts, strict=True)))


def of_metric(name: str, values: Sequence[float], runs: Sequence[Run]) -> float:
    """Noise of the difference of a metric, by its name in MLflow; 0 if it is not known."""
    path = name.split("/")
    if path[-1] == "loss":
        return _LOSS_SHARE * abs(values[0])
    if name == "test/accuracy":
        return of_shares(values, [float(run.classes["support"].sum()) for run in runs])
    if name == "train/accuracy":
        return of_shares(values, [float(run.rounds["examples"].iloc[-1]) for run in runs])
    if len(path) == 3 and path[1] == "clients":
        return of_clients(path[2], [run.clients for run in runs], f"{path[0]}_accuracy")
    if path[:2] == ["clients", "held_out"]:
        return of_clients(path[-1], [run.clients for run in runs], "held_out_accuracy") if len(path) == 3 else 0.0
    return 0.0


def of_clients(figure: str, clients: Sequence[pd.DataFrame], column: str) -> float:
    """Noise of a figure of the clients' accuracies (`fedpipe.evaluation.fairness.spread`)."""
    if not all(column in table for table in clients):
        return 0.0
    known = [table.dropna(subset=[column]) for table in clients]
    if any(len(table) < 2 for table in known):
        return 0.0
    values = [table[column].to_numpy() for table in known]
    if figure in _QUANTILES:
        return math.hypot(*(_of_quantile(each, _QUANTILES[figure]) for each in values))
    if figure == "worst":
        worst = [table.iloc[int(table[column].to_numpy().argmin())] for table in known]
        samples = samples_column(column)
        return of_shares([row[column] for row in worst], [float(row[samples]) for row in worst])
    if figure not in _OF_ALL_CLIENTS:
        return 0.0
    noise = _NORMAL_95 * math.sqrt(sum(float(each.var(ddof=1)) / len(each) for each in values))
    if figure == "mean":
        return noise
    # Variance and Jain's index follow from the mean and the accuracies: they count where the mean does.
    return math.inf if abs(float(values[1].mean() - values[0].mean())) <= noise else 0.0


def _of_quantile(values: np.ndarray, share: float) -> float:
    """Half of the interval between the order statistics that hold the quantile with a probability of 95 %."""
    ranked, count = np.sort(values), len(values)
    width = _NORMAL_95 * math.sqrt(share * (1 - share) / count)
    low, high = np.quantile(ranked, [max(share - width, 0.0), min(share + width, 1.0)])
    return float(high - low) / 2
