"""The report's figures: rows with one value per run, and the difference between two runs.

A value that a run does not have is NaN on the way and a dash in a row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from operations.report.runs import Run

ABSENT = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_HIGHER_IS_BETTER = {"accuracy", "mean", "median", "worst", "percentile_10", "recall", "precision"}
_LOWER_IS_BETTER = {"loss", "non_finite", "epsilon_rdp", "epsilon_pld"}
_IN_COSTS = {"training.rounds", "training.bytes_down", "training.bytes_up"}


@dataclass(frozen=True)
class Row:
    """One figure of one or two runs, as text; ``verdict`` is "better", "worse" or "" and judges the second run."""

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
    """All metrics, in the order of the runs' files, but for those among the `costs`."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if name not in _IN_COSTS)
    rows = []
    for name in names:
        values = [run.metrics.get(name, math.nan) for run in runs]
        # JSON tells counts and measures apart: 3 and 3.0.
        shown = count if all(isinstance(run.metrics.get(name, 0), int) for run in runs) else fraction
        # A partition is more skewed or less, not better or worse.
        rows.append(_row(name, values, shown, kind="skew" if name.startswith("partition.") else ""))
    return rows


def costs(runs: Sequence[Run]) -> list[Row]:
    """Rounds, clients, examples, bytes and seconds: what a run took."""
    rounds = [run.rounds for run in runs]
    seconds = [pd.Series(dtype=float) if run.seconds is None else run.seconds for run in runs]
    return [
        _row("rounds", [len(table) for table in rounds], count),
        _row("clients per round, mean", [float(table["clients"].mean()) for table in rounds], hundredths),
        _row("examples that clients trained on", [table["examples"].sum() for table in rounds], count),
        _row("bytes down to clients", [table["bytes_down"].sum() for table in rounds], size),
        _row("bytes up from clients", [table["bytes_up"].sum() for table in rounds], size),
        _row("seconds per round, median", [times.median() for times in seconds], hundredths),
        _row("seconds of all rounds", [times.sum(min_count=1) for times in seconds], hundredths),
    ]


def accuracy_columns(runs: Sequence[Run]) -> list[str]:
    """The columns of the client table that are accuracies, and that all runs have."""
    return [column for column in ("accuracy", "test_accuracy") if all(column in run.clients.columns for run in runs)]


def client_accuracy(runs: Sequence[Run], column: str) -> list[Row]:
    """How an accuracy is spread over the clients; one without samples has none and does not count."""
    known = [run.clients[column].dropna() for run in runs]
    return [
        _row("clients", [len(run.clients) for run in runs], count),
        _row("clients without samples", [int(run.clients[column].isna().sum()) for run in runs], count),
        _row("mean", [float(values.mean()) for values in known]),
        _row("median", [float(values.median()) for values in known]),
        _row("percentile_10", [float(values.quantile(0.1)) for values in known]),
        _row("worst", [float(values.min()) for values in known]),
    ]


def worst_clients(run: Run, column: str, most: int = 10) -> list[tuple[str, str, str]]:
    """Client, samples and accuracy of the ``most`` clients that the model serves worst, the worst first."""
    worst = run.clients.dropna(subset=[column]).sort_values([column, "client"]).head(most)
    triples = zip(worst["client"], worst[column.replace("accuracy", "samples")], worst[column], strict=True)
    return [(str(client), count(samples), fraction(accuracy)) for client, samples, accuracy in triples]


def classes(runs: Sequence[Run], measure: str) -> list[Row]:
    """``recall`` or ``precision`` of each class that any of the runs knows."""
    columns = [run.classes.set_index("class")[measure] for run in runs]
    labels = sorted({label for column in columns for label in column.index})
    return [_row(str(label), [column.get(label, math.nan) for column in columns], kind=measure) for label in labels]


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


def _row(name: str, values: Sequence[float], shown: Callable[[float], str] = fraction, kind: str = "") -> Row:
    texts = tuple(ABSENT if math.isnan(value) else shown(value) for value in values)
    if len(values) < 2 or ABSENT in texts:
        return Row(name, texts)
    change = values[1] - values[0]
    sign = "+" if change > 0 else _MINUS if change < 0 else ""
    return Row(name, texts, sign + shown(abs(change)), _verdict(kind or name.rpartition(".")[2], change))


def _verdict(kind: str, change: float) -> str:
    if not change or kind not in _HIGHER_IS_BETTER | _LOWER_IS_BETTER:
        return ""
    return "better" if (change > 0) == (kind in _HIGHER_IS_BETTER) else "worse"
