"""docs/results.md, made from the tables and their rows alone: own and published figures, curves, seconds."""

import math
from collections.abc import Sequence
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError
from operations.table import curves, definition, records
from operations.table.definition import Measure, Published, Table
from operations.table.groups import Figure, Group, groups, selected_on

PAGE = Path("docs/results.md")
_HEAD = """# Results

This page is made by `make table` from the files in `docs/results` and from the tables' definitions in
`operations/table/tables`; [tables](tables.md) explains both. Do not edit it.

Each row sums up runs that differ in the seed only: mean and sample standard deviation. `make verify CELL=TABLE/CELL`
runs one of them anew and compares the SHA-256 of its weights.
"""
_NAMES: dict[Measure, str] = {
    "rounds_to_target": "rounds to target",
    "test_accuracy": "test accuracy, last round",
    "best_test_accuracy": "test accuracy, best round",
    "held_out_accuracy": "accuracy of clients that never trained",
}
# The rounds that a measure selects.
_ROUNDS: dict[Measure, str] = {
    "rounds_to_target": "the round that reaches the target",
    "best_test_accuracy": "the best round",
}


def write() -> None:
    """Writes the page and the pictures."""
    parts = [_HEAD]
    for name in definition.names():
        try:
            table = definition.read(name)
        except PipelineError as error:  # another table than the one that runs must not stop it
            parts.append(f"## {name}\n\nThis table cannot be read: {error}.\n")
            continue
        parts.append(_section(table))
    write_text(PAGE, "\n".join(parts))


def _section(table: Table) -> str:
    rows = records.read(table.name)
    every = groups(table, rows)
    ran = [group for group in every if group.rows]
    parts = [f"## {table.definition.title}", _about(table, ran)]
    if ran:
        parts.append(_rows(table, ran))
    parts += [_published(each) for each in table.definition.published if each.note or not ran]
    if ran and curves.plot(table, ran, records.read_curves(table.name)):
        parts.append(f"![Test accuracy per round](results/{table.name}/{curves.NAME})")
    missing = [cell.name for cell in table.cells if cell.name not in rows]
    if missing:
        some = f"{len(missing)} of {len(table.cells)} cells {'has' if len(missing) == 1 else 'have'}"
        what = "No cell has" if len(missing) == len(table.cells) else some
        parts.append(f"{what} {'' if what.startswith('No') else 'not '}been run{_named(missing, table)}.")
    if rows:
        parts.append(f"All runs: [runs.csv](results/{table.name}/runs.csv).")
    return "\n\n".join(part for part in parts if part) + "\n"


def _named(missing: Sequence[str], table: Table) -> str:
    return "" if len(missing) == len(table.cells) else ": " + ", ".join(f"`{name}`" for name in missing)


def _about(table: Table, ran: Sequence[Group]) -> str:
    text = table.definition.text.strip()
    sentences = [text] if text else []
    sentences.append(f"Table `{table.name}`, seeds {', '.join(map(str, table.definition.seeds))}.")
    selected = [f"`{axis}`" for axis in table.definition.grid]
    selected += [_ROUNDS[measure] for measure in table.definition.measures if measure in _ROUNDS]
    if selected and ran:
        samples = selected_on(row for group in ran for row in group.rows)
        names, verb = " and ".join(selected), "was" if len(selected) == 1 else "were"
        sentences.append(f"{names[0].upper()}{names[1:]} {verb} selected on the {samples} images.")
    deviations = [f"- {each}" for each in table.definition.deviations]
    return "\n\n".join(
        [" ".join(sentences), *(["\n".join(["What differs from the source:", "", *deviations])] * bool(deviations))]
    )


def _published(published: Published) -> str:
    where = f"[{published.source}]({published.link})" if published.link else published.source
    return f"Published ({published.name}): {where}. {published.note}".strip()


def _rows(table: Table, ran: Sequence[Group]) -> str:
    """The Markdown table: a row per group."""
    own = table.definition
    measures = own.measures
    if any(row.held_out_accuracy is not None for group in ran for row in group.rows):
        measures = list(dict.fromkeys([*measures, "held_out_accuracy"]))
    head = [*own.group_axes, *(f"best {axis}" for axis in own.grid)]
    head += [_NAMES[measure] for measure in measures]
    for each in own.published:
        is_ratio = (each.measure or own.measure) == "rounds_to_target"
        head += [_title(each, own.measure), "ratio" if is_ratio else "difference"]
    head.append("seconds per run")
    incomplete = any(len(group.rows) < len(own.seeds) for group in ran)
    if incomplete:
        head.append("seeds")
    lines = [head, ["---"] * len(head)]
    for group in ran:
        line = [*group.labels, *group.best]
        if own.grid and group.tried < group.values:
            line[-1] += f" ({group.tried} of {group.values} tried)"
        line += [_shown(group.figure(measure), measure) for measure in measures]
        for each in own.published:
            line += _beside(each, own.group_axes, group, each.measure or own.measure)
        line.append("not known" if group.seconds is None else f"{group.seconds:,.0f}")
        if incomplete:
            line.append(", ".join(str(row.seed) for row in group.rows))
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(published: Published, measure: Measure) -> str:
    name = f"[{published.name}]({published.link})" if published.link else published.name
    return name if published.measure in (None, measure) else f"{name}, {_NAMES[published.measure].partition(', ')[2]}"


def _shown(figure: Figure, measure: Measure) -> str:
    if measure == "rounds_to_target":
        reached = [value for value in figure.values if math.isfinite(value)]
        if len(reached) < len(figure.values):
            longest = max(figure.rounds)
            return f"not within {longest}" + (f" ({len(reached)} of {len(figure.values)} seeds)" if reached else "")
        shown = f"{figure.mean:.0f}" if len(reached) == 1 else f"{figure.mean:.1f}"
        return shown + (f" ± {figure.deviation:.1f}" if figure.deviation is not None else "")
    shown = f"{100 * figure.mean:.2f} %"
    return shown + (f" ± {100 * figure.deviation:.2f}" if figure.deviation is not None else "")


def _beside(published: Published, axes: Sequence[str], group: Group, measure: Measure) -> list[str]:
    """The published figure, and this project's as a ratio to it."""
    values = [
        figure["value"]
        for figure in published.figures
        if tuple(str(figure[axis]) for axis in axes) == tuple(group.labels)
    ]
    if not values:
        return ["", ""]
    value, ours = float(values[0]), group.figure(measure).mean
    if measure == "rounds_to_target":
        return [f"{value:g}", f"{ours / value:.2f} times" if math.isfinite(ours) else "not reached"]
    return [f"{100 * value:.2f} %".replace(".00 %", ".0 %"), f"{100 * (ours - value):+.2f} points"]
