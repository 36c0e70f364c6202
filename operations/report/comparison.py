"""The report's figures: rows with one value per run, and the difference between two runs.

A value that a run does not have is NaN on the way and a dash in a row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon  # type: ignore[import-untyped]

from fedpipe.evaluation.clients import by_cluster, personal_column
from fedpipe.evaluation.fairness import jain_index
from operations.report import noise
from operations.report.runs import Run, samples_column

ABSENT = "\N{EN DASH}"
WITHIN_NOISE = "within noise"
# The rows for the top of the table.
_FIRST = (
    *("test/accuracy", "test/loss", "train/accuracy", "train/loss"),
    *(f"{samples}/clients/{figure}" for samples in ("test", "train") for figure in ("mean", "percentile_10", "worst")),
    *(f"clients/held_out/{figure}" for figure in ("mean", "percentile_10", "worst")),
)
_MINUS = "\N{MINUS SIGN}"
_HIGHER_IS_BETTER = {"accuracy", "mean", "median", "worst", "recall", "precision", "jain"}
_HIGHER_IS_BETTER |= {f"percentile_{10 * n}" for n in range(1, 10)}
_LOWER_IS_BETTER = {"loss", "non_finite", "epsilon_rdp", "epsilon_pld", "variance"} | {
    f"{figure}_error" for figure in ("mean_absolute", "root_mean_squared")
}
# The columns of the client table that are accuracies, and in words on what.
ACCURACIES = {
    "train_accuracy": "on each client's training samples",
    "test_accuracy": "on test samples of each client's own, that it never trained on",
    "test_personalised_accuracy": "of the global model after local steps of each client, on its own test samples",
    "test_personal_accuracy": "of each client's personal model, on its own test samples",
    "train_personal_accuracy": "of each client's personal model, on its training samples",
    "held_out_accuracy": "on the samples of clients that never trained",
    "held_out_personalised_accuracy": "of the global model after local steps of clients that never trained, on their "
    "own test samples",
}
_FEWEST = 10  # clients whose accuracy differs, from which on the normal approximation of the paired test is good
_TARGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)  # test accuracies
_IN_COSTS = {"training/rounds", "training/bytes_down", "training/bytes_up", "training/simulated_hours"}


@dataclass(frozen=True)
class Row:
    """One figure of one or two runs, as text.

    ``verdict`` judges the second run: "better", "worse", `WITHIN_NOISE`, or "" where no value is better than another.
    """

    name: str
    values: tuple[str, ...]
    difference: str = ""
    verdict: str = ""

    @property
    def is_same(self) -> bool:
        """Whether the runs have the same value."""
        return len(set(self.values)) == 1


def params(runs: Sequence[Run]) -> list[Row]:
    """All params by dotted name, in the order in which the runs recorded them."""
    names = dict.fromkeys(name for run in runs for name in run.params)
    return [Row(name, tuple(run.params.get(name, ABSENT) for run in runs)) for name in names]


def metrics(runs: Sequence[Run]) -> list[Row]:
    """All metrics but those among the `costs`: first what a person looks for first, then in the order of the files."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if name not in _IN_COSTS)
    rows = []
    for name in names:
        values = [run.metrics.get(name, math.nan) for run in runs]
        # JSON tells counts and measures apart: 3 and 3.0.
        shown = count if all(isinstance(run.metrics.get(name, 0), int) for run in runs) else fraction
        # A partition is more skewed or less, not better or worse.
        kind = "skew" if name.startswith("partition/") else ""
        rows.append(_row(name, values, shown, kind, _noise(name, values, runs)))
    return sorted(rows, key=lambda row: _FIRST.index(row.name) if row.name in _FIRST else len(_FIRST))


def _noise(name: str, values: Sequence[float], runs: Sequence[Run]) -> float:
    return noise.of_metric(name, values, runs) if len(runs) == 2 and not any(map(math.isnan, values)) else 0.0


def costs(runs: Sequence[Run]) -> list[Row]:
    """Costs of a run: rounds, clients, examples, bytes and seconds, in all and until a test accuracy."""
    rounds = [run.rounds for run in runs]
    hours = [_column(table, "simulated_hours") for table in rounds]
    is_simulated = any(column.notna().any() for column in hours)
    seconds = [pd.Series(dtype=float) if run.seconds is None else run.seconds for run in runs]
    simulated = [_row("simulated hours of all rounds", [h.sum(min_count=1) for h in hours], hundredths)]
    return [
        _row("rounds", [len(table) for table in rounds], count),
        _row("clients per round, mean", [float(table["clients"].mean()) for table in rounds], hundredths),
        _row("examples that clients trained on", [table["examples"].sum(min_count=1) for table in rounds], count),
        _row("bytes down to clients", [table["bytes_down"].sum(min_count=1) for table in rounds], size),
        _row("bytes up from clients", [table["bytes_up"].sum(min_count=1) for table in rounds], size),
        _row("seconds per round, median", [times.median() for times in seconds], hundredths),
        _row("seconds of all rounds", [times.sum(min_count=1) for times in seconds], hundredths),
        *(simulated if is_simulated else []),
        *_until(rounds, hours if is_simulated else None),
    ]


def _until(rounds: Sequence[pd.DataFrame], hours: Sequence[pd.Series] | None) -> list[Row]:
    """What each run took until its first evaluated round with a test accuracy that all of them reach."""
    accuracies = [_column(table, "test_accuracy") for table in rounds]
    common = float(np.min([column.max() for column in accuracies]))  # NaN if a run has no evaluated round
    target = max((target for target in _TARGETS if target <= common), default=None)
    if target is None:
        return []
    last = [int((column >= target).to_numpy().argmax()) + 1 for column in accuracies]
    tables = list(zip(rounds, last, strict=True))
    sent = [float((table["bytes_down"] + table["bytes_up"])[:end].sum(min_count=1)) for table, end in tables]
    condition = f"until test accuracy {target:g}"
    return [
        _row(f"rounds {condition}", [int(table["round"].iloc[end - 1]) for table, end in tables], count),
        _row(f"bytes {condition}", sent, size),
        *([] if hours is None else [_row(f"simulated hours {condition}", _sums(hours, last), hundredths)]),
    ]


def _sums(columns: Sequence[pd.Series], ends: Sequence[int]) -> list[float]:
    """The sum of the first rows of each column; NaN for one that has no values."""
    return [float(column[:end].sum(min_count=1)) for column, end in zip(columns, ends, strict=True)]


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    """A column that a run may lack, then full of NaN."""
    return table[name] if name in table else pd.Series(math.nan, table.index, name=name)


def accuracy_columns(runs: Sequence[Run]) -> list[str]:
    """The columns of the client table that are accuracies, and that all runs have and do not withhold."""
    return [
        column
        for column in ACCURACIES
        if all(column in run.clients.columns and run.clients[column].notna().any() for run in runs)
    ]


def paired_clients(runs: Sequence[Run], column: str) -> str:
    """A sentence that compares an accuracy of two runs client by client; empty for one run or other clients.

    The Wilcoxon signed-rank test, two-sided, by the normal approximation with corrections for ties and continuity:
    clients with equal accuracies are left out, the others ranked by |B - A|; W+ is the sum of the ranks with B > A.
    Source: Wilcoxon 1945, "Individual Comparisons by Ranking Methods", https://doi.org/10.2307/3001968.
    """
    if len(runs) != 2 or not _same_clients(runs):
        return ""
    change = (runs[1].clients[column] - runs[0].clients[column]).dropna()
    higher, lower = int((change > 0).sum()), int((change < 0).sum())
    counts = f"Of {len(change):,} clients, B serves {higher:,} better and {lower:,} worse than A"
    if higher + lower < _FEWEST:
        return f"{counts}: fewer than {_FEWEST} differ, too few for a Wilcoxon signed-rank test."
    # Accuracies are quotients: equal differences may differ in the last bits, and would not count as ties.
    p = wilcoxon(change.round(12), zero_method="wilcox", correction=True, mode="approx").pvalue
    return f"{counts} (Wilcoxon signed-rank test, two-sided: p = {p:.2g})."


def _same_clients(runs: Sequence[Run]) -> bool:
    """Whether two runs have the same clients, as their params, sizes and test samples say."""
    sections = ("download.dataset", "download.idx", "partition.")
    params = [{name: value for name, value in run.params.items() if name.startswith(sections)} for run in runs]
    sizes = [run.clients[[c for c in ("client", "train_samples", "test_samples") if c in run.clients]] for run in runs]
    return params[0] == params[1] and sizes[0].equals(sizes[1])


def client_accuracy(runs: Sequence[Run], column: str) -> list[Row]:
    """How an accuracy is spread over the clients; one without samples has none and does not count."""
    tables = [run.clients_with(column) for run in runs]
    known = [table[column].dropna() for table in tables]

    def chance(figure: str) -> float:
        return noise.of_clients(figure, [run.clients for run in runs], column) if len(runs) == 2 else 0.0

    return [
        _row("clients", [len(table) for table in tables], count),
        _row("clients without samples", [int(table[column].isna().sum()) for table in tables], count),
        _row("mean", [float(values.mean()) for values in known], by_chance=chance("mean")),
        _row("median", [float(values.median()) for values in known], by_chance=chance("median")),
        _row("percentile_10", [float(values.quantile(0.1)) for values in known], by_chance=chance("percentile_10")),
        _row("worst", [float(values.min()) for values in known], by_chance=chance("worst")),
        _row("variance", [float(values.var(ddof=0)) for values in known], by_chance=chance("variance")),
        _row("Jain's index", [jain_index(values.to_numpy()) for values in known]),
    ]


def has_clusters(runs: Sequence[Run]) -> bool:
    """Whether all runs have clusters of clients (as `ifca` has)."""
    return all("cluster" in run.clients and personal_column(run.clients) for run in runs)


def clusters(runs: Sequence[Run]) -> list[Row]:
    """Clients of each cluster, and the mean and worst accuracy of their model; clusters of two runs are not paired."""
    if not has_clusters(runs):
        return []
    accuracies = [by_cluster(run.clients) for run in runs]

    def row(number: int, what: str, figure: Callable[[np.ndarray], str]) -> Row:
        texts = (figure(groups[number]) if len(groups.get(number, ())) else ABSENT for groups in accuracies)
        return Row(f"cluster {number}: {what}", tuple(texts))

    figures: dict[str, Callable[[np.ndarray], str]] = {
        "clients with samples": lambda values: count(len(values)),
        "mean": lambda values: fraction(float(values.mean())),
        "worst": lambda values: fraction(float(values.min())),
    }
    numbers = sorted({number for groups in accuracies for number in groups})
    return [row(number, what, text) for number in numbers for what, text in figures.items()]


def worst_clients(run: Run, column: str, most: int = 10) -> list[tuple[str, str, str]]:
    """Client, samples and accuracy of the ``most`` clients that the model serves worst, the worst first."""
    worst = run.clients.dropna(subset=[column]).sort_values([column, "client"]).head(most)
    samples = samples_column(column)
    triples = zip(worst["client"], worst[samples], worst[column], strict=True)
    return [(str(client), count(samples), fraction(accuracy)) for client, samples, accuracy in triples]


def classes(runs: Sequence[Run], measure: str) -> list[Row]:
    """``recall`` or ``precision`` of each class that any of the runs knows."""
    columns = [run.classes.set_index("class")[measure] for run in runs]
    labels = sorted({label for column in columns for label in column.index})
    supports = [run.classes.set_index("class")["support"] for run in runs]
    rows = []
    for label in labels:
        values = [column.get(label, math.nan) for column in columns]
        counts = [float(support.get(label, 0)) for support in supports]
        by_chance = noise.of_shares(values, counts) if len(runs) == 2 and not any(map(math.isnan, values)) else 0.0
        rows.append(_row(str(label), values, kind=measure, by_chance=by_chance))
    return rows


def count(value: float) -> str:
    """A whole number, with thousands separators."""
    return f"{value:,.0f}"


def fraction(value: float) -> str:
    """Four digits behind the point."""
    return f"{value:,.4f}"


def hundredths(value: float) -> str:
    """Two digits behind the point."""
    return f"{value:,.2f}"


def size(number: float) -> str:
    """Bytes in the unit that suits them: ``1.31 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"


def _row(
    name: str,
    values: Sequence[float],
    shown: Callable[[float], str] = fraction,
    kind: str = "",
    by_chance: float = 0.0,  # a difference that is not larger may be chance
) -> Row:
    texts = tuple(ABSENT if math.isnan(value) else shown(value) for value in values)
    if len(values) < 2 or ABSENT in texts:
        return Row(name, texts)
    change = values[1] - values[0]
    sign = "+" if change > 0 else _MINUS if change < 0 else ""
    return Row(name, texts, sign + shown(abs(change)), _verdict(kind or name.rpartition("/")[2], change, by_chance))


def _verdict(kind: str, change: float, by_chance: float) -> str:
    if not change or kind not in _HIGHER_IS_BETTER | _LOWER_IS_BETTER:
        return ""
    if abs(change) <= by_chance:
        return WITHIN_NOISE
    return "better" if (change > 0) == (kind in _HIGHER_IS_BETTER) else "worse"
