"""The differences of two runs, or the figures of one, as Markdown: for a job's summary or a pull request."""

from collections.abc import Sequence

from operations.report import comparison
from operations.report.comparison import Row
from operations.report.page import legend_names
from operations.report.runs import Run


def render(runs: Sequence[Run]) -> str:
    """Tables of params (of two runs those that differ), metrics and costs."""
    names = legend_names(runs)
    params = comparison.params(runs)
    if len(runs) > 1:
        params = [row for row in params if not row.is_same]
    paired = {column: comparison.paired_clients(runs, column) for column in comparison.accuracy_columns(runs)}
    parts = [
        f"## {' and '.join(f'`{name}`' for name in names)}",
        *(f"`{name}`: {_escaped(sentence)}" for name, run in zip(names, runs, strict=True) for sentence in run.stale),
        f"### Params{' that differ' if len(runs) > 1 else ''}",
        _table("param", names, params) if params else "None.",
        "### Metrics",
        _table("metric", names, comparison.metrics(runs), with_difference=len(runs) > 1),
        *(f"`{column}` of metrics/clients.csv: {sentence}" for column, sentence in paired.items() if sentence),
        "### Cost",
        _table("cost", names, comparison.costs(runs), with_difference=len(runs) > 1),
    ]
    return "\n\n".join(parts) + "\n"


def _table(first: str, names: Sequence[str], rows: Sequence[Row], with_difference: bool = False) -> str:
    heads = [first, *names, *(["difference"] if with_difference else [])]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row in rows:
        difference = [f"{row.difference} {row.verdict}".strip()] if with_difference else []
        lines.append([row.name, *row.values, *difference])
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
