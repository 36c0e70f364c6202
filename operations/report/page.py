"""The report as one HTML page: sections of charts and tables, filled into page.html.jinja."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedpipe.evaluation.clients import by_cluster, personal_column
from fedpipe.evaluation.personal import TRAINED_ON_THEM
from operations.report import charts, comparison
from operations.report.comparison import Row
from operations.report.runs import Run

LETTERS = "AB"
_SHORT = 28  # characters of a run's name that fit into a legend
# The metrics for the top of the page, where they exist.
_HEADLINES = {
    "test/accuracy": "test accuracy",
    "test/loss": "test loss",
    "test/clients/worst": "worst client (test)",
    "test/clients/percentile_10": "10th percentile of clients (test)",
    "train/clients/worst": "worst client (train)",
    "train/clients/percentile_10": "10th percentile of clients (train)",
    "clients/held_out/mean": "mean of clients that never trained",
}
# Columns of metrics/client_rounds.csv that are drawn.
_OF_CLIENT_ROUNDS = {
    "train_accuracy": "training accuracy of the clients",
    "train_loss": "training loss of the clients",
    "update_norm": "norm of the clients' updates",
}
_OVER: dict[charts.Over, str] = {"rounds": "per round", "hours": "by simulated hours", "bytes": "by bytes sent"}


@dataclass(frozen=True)
class Chart:
    """A picture: its address, what it shows in words for who cannot see it, and the line below it."""

    address: str
    alt: str
    caption: str


@dataclass(frozen=True)
class ClientSection:
    """One accuracy per client: heading, charts, figures, and for each run the clients served worst."""

    heading: str
    charts: list[Chart]
    rows: list[Row]
    worst: list[list[tuple[str, str, str]]]
    paired: str  # a sentence on two runs client by client; may be empty
    warning: str  # a sentence on the limits of the figures; may be empty


def render(runs: Sequence[Run]) -> str:
    """The page for one run or two, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = legend_names(runs)
    params, metrics = comparison.params(runs), comparison.metrics(runs)
    return environment.get_template("page.html.jinja").render(
        title=" and ".join(run.name for run in runs),
        runs=runs,
        letters=LETTERS,
        names=names,
        headlines=[(_HEADLINES[row.name], row) for row in metrics if row.name in _HEADLINES],
        metrics=metrics,
        params=params,
        differing=[row for row in params if not row.is_same],
        costs=comparison.costs(runs),
        curves=_curves(runs, names),
        client_rounds=_client_rounds(runs, names),
        clients=[_client_section(runs, names, column) for column in comparison.accuracy_columns(runs)],
        clusters=_clusters(runs, names),
        cluster_rows=comparison.clusters(runs),
        recall=_recall(runs, names),
        recalls=comparison.classes(runs, "recall"),
        precisions=comparison.classes(runs, "precision"),
        confusion=_confusion(runs, names),
        partition=_partition(runs, names),
    )


def legend_names(runs: Sequence[Run]) -> list[str]:
    """Short names that tell the runs apart: ``A: HEAD``, ``B: workspace``; of one run alone its own."""
    if len(runs) == 1:
        return [runs[0].name]
    short = [run.name if len(run.name) <= _SHORT else run.name[: _SHORT - 1] + "…" for run in runs]
    return [f"{letter}: {name}" for letter, name in zip(LETTERS, short, strict=False)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _of(names: Sequence[str]) -> str:
    return " and ".join(names)


def _curves(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    tables = [run.rounds for run in runs]
    ends = "; ".join(f"{name} ends at {{:.4f}}" for name in names)

    def chart(column: str, label: str, over: charts.Over = "rounds") -> Chart:
        caption = f"{label[0].upper()}{label[1:]} {_OVER[over]}"
        alt = f"{caption} of {_of(names)}. " + ends.format(*(table[column].ffill().iloc[-1] for table in tables)) + "."
        return Chart(charts.curves(tables, names, column, label, over), alt, caption)

    # Rounds are evaluated now and then, or never.
    measured = [
        (f"{samples}_{figure}", f"{label} {figure}")
        for samples, label in (("train", "training"), ("validation", "validation"), ("test", "test"))
        for figure in ("loss", "accuracy")
        if all(f"{samples}_{figure}" in table and table[f"{samples}_{figure}"].notna().any() for table in tables)
    ]
    shown = [chart(*each) for each in measured]
    if measured and all(table["bytes_up"].notna().any() for table in tables):
        shown.append(chart(*measured[-1], over="bytes"))
    if measured and all("simulated_hours" in table and table["simulated_hours"].notna().any() for table in tables):
        shown.append(chart(*measured[-1], over="hours"))
    if all("epsilon" in table for table in tables):
        shown.append(chart("epsilon", "epsilon spent"))
    return shown


def _client_rounds(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """What the clients of each round measured; empty unless all runs have it (``train.client_rounds``)."""
    tables = [run.client_rounds for run in runs if run.client_rounds is not None]
    if len(tables) < len(runs):
        return []

    def chart(column: str, label: str) -> Chart:
        medians = [table[table["round"] == table["round"].max()][column].median() for table in tables]
        ends = "; ".join(
            f"{name}: median {median:.4f} in the last round" for name, median in zip(names, medians, strict=True)
        )
        caption = f"{label[0].upper()}{label[1:]}: median, 10th to 90th percentile, lowest and highest"
        return Chart(charts.client_bands(tables, names, column, label), f"{caption}, {_of(names)}. {ends}.", caption)

    return [chart(*each) for each in _OF_CLIENT_ROUNDS.items()]


def _client_section(runs: Sequence[Run], names: Sequence[str], column: str) -> ClientSection:
    values = [run.clients[column] for run in runs]
    which = comparison.ACCURACIES[column]
    rows = comparison.client_accuracy(runs, column)
    (of_worst,) = (row for row in rows if row.name == "worst")
    worst = "; ".join(f"{name}: worst {value}" for name, value in zip(names, of_worst.values, strict=True))
    histogram = f"How many clients have which accuracy ({which}), {_of(names)}. {worst}."
    ranked = f"Accuracy ({which}) of the clients from worst to best, {_of(names)}. {worst}."
    return ClientSection(
        heading=f"Accuracy {which}",
        charts=[
            Chart(charts.client_histogram(values, names), histogram, "How many clients have which accuracy"),
            Chart(
                charts.client_quantiles(values, names),
                ranked,
                "Clients from worst to best; the dotted line is the 10th percentile",
            ),
        ],
        rows=rows,
        worst=[comparison.worst_clients(run, column) for run in runs],
        paired=comparison.paired_clients(runs, column),
        warning=_sentence(TRAINED_ON_THEM) if column == "train_personal_accuracy" else "",
    )


def _clusters(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """How the clusters' models serve their clients; empty if a run has none."""
    tables = [run.clients for run in runs]
    if not comparison.has_clusters(runs):
        return []
    sizes = "; ".join(
        f"{name}: {', '.join(str(len(mine)) for mine in by_cluster(table).values())} clients with samples"
        for name, table in zip(names, tables, strict=True)
    )
    samples = " and ".join(dict.fromkeys(str(personal_column(table)).partition("_")[0] for table in tables))
    caption = f"One dot per client: the accuracy of its cluster's model on its {samples} samples"
    return [Chart(charts.clusters(tables, names), f"Accuracy by cluster, {_of(names)}. {sizes}.", caption)]


def _recall(runs: Sequence[Run], names: Sequence[str]) -> Chart:
    tables = [run.classes for run in runs]
    lowest = "; ".join(f"{name}: {_lowest_recall(table)}" for name, table in zip(names, tables, strict=True))
    caption = "Share of a class's test images that the model recognises"
    return Chart(charts.recall(tables, names), f"Recall of each class, {_of(names)}. {lowest}.", caption)


def _lowest_recall(table: pd.DataFrame) -> str:
    if table["recall"].isna().all():
        return "labels are numbers, which have no recall"
    return f"lowest {table['recall'].min():.4f}, class {table['class'].iloc[table['recall'].argmin()]}"


def _confusion(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """One matrix per run, and their difference where both have the same classes."""
    shown = [
        Chart(
            charts.confusion(run.confusion),
            f"Confusion matrix of {name}: {run.confusion.trace():,} of {run.confusion.sum():,} test images are right.",
            f"{name}: test images, coloured by the share of the actual class",
        )
        for run, name in zip(runs, names, strict=True)
        if run.confusion is not None
    ]
    matrices = [run.confusion for run in runs if run.confusion is not None]
    if len(matrices) == 2 and matrices[0].shape == matrices[1].shape:
        caption = "B - A, in percentage points of the actual class: blue is more, red is less"
        alt = f"How the confusion matrix of {names[1]} differs from that of {names[0]}."
        shown.append(Chart(charts.confusion_change(*matrices), alt, caption))
    return shown


def _partition(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    return [
        Chart(
            "data:image/png;base64," + base64.b64encode(run.partition_picture).decode(),
            f"Label mix and size of each of the {len(run.clients):,} clients' shards, {name}.",
            f"{name}: label mix above, sizes below",
        )
        for run, name in zip(runs, names, strict=True)
        if run.partition_picture is not None
    ]
