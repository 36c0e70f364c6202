"""A retraining's summary, for a pull request and a job's page: reports/summary.md."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import layout
from fedpipe.atomic import write_text
from fedpipe.datasets.pool import Entry, Pool
from operations.incoming.folders import HELD, REJECTED, reasons
from operations.promote.decision import Decision
from operations.tell.text import code

SUMMARY = Path("reports/summary.md")
DRIFT = Path("reports/drift.md")
REPORT = Path("reports/report.html")
COMPARISON = Path("reports/report.md")
# GitHub refuses the text of a pull request above 65,536 characters, and three parts grow with the batches.
_LONGEST_PART = 15_000
_WITHHELD = "The training has secret noise: figures of the clients' data, of batches and drift, are withheld."
_STARTS = {
    "fresh": "fresh weights",
    "champion": f"the champion's weights (`{layout.INITIAL_POINTER}`)",
    "file": "the weights of `train.init_file`",
}


def write(dataset: str, init: str, new: Sequence[Entry], decision: Decision, warnings: Sequence[str] = ()) -> None:
    """Writes reports/summary.md, and hands it to GitHub where a workflow runs this.

    Args:
      dataset: The data set's name.
      init: `train.init`.
      new: The batches that the committed results were not trained on.
      decision: How the model compares with the champion.
      warnings: Sentences on where the data is.
    """
    training = json.loads(layout.TRAINING.read_text(encoding="utf-8"))
    withholds = layout.pipeline_files().withholds
    parts = [
        f"# Retraining on {dataset}",
        f"Trained {training['rounds']} rounds from {_STARTS[init]}; the weights' SHA-256 is "
        f"`{training['weights_sha256']}`.",
        "## Promotion",
        _decision(decision),
        *(f"**Warning.** {warning}" for warning in warnings),
        *([_WITHHELD] if withholds else _of_data(new)),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(SUMMARY, text)
    tell_github(text)


def _of_data(new: Sequence[Entry]) -> list[str]:
    """The summary of the clients' data: batches, drift, and the training's figures."""
    return [
        "## New data",
        _cut(_batches(new), str(Pool(layout.POOL).ledger)),
        *waiting(),
        *rejected(),
        *([_cut(DRIFT.read_text(encoding="utf-8").strip(), str(DRIFT))] if new else []),
        _cut(COMPARISON.read_text(encoding="utf-8").strip(), str(COMPARISON)),
    ]


def tell_github(text: str) -> None:
    """Adds ``text`` to the summary of the GitHub job that runs this, if one does."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(text)


def rejected() -> list[str]:
    """The batches that were rejected, with the reasons: a paragraph, or none."""
    return _listed("Rejected", REJECTED)


def waiting() -> list[str]:
    """The batches that wait for a person, with the reasons: a paragraph, or none."""
    return _listed('On hold until a person decides (`make incoming ARGS="release NAME"` or `reject`)', HELD)


def _listed(what: str, folder: Path) -> list[str]:
    lines = [f"- {code(name)}: {code(reason)}" for name, reason in reasons(folder).items()]
    return [f"{what}, in `{folder}`:", _cut("\n".join(lines), str(folder))] if lines else []


def _cut(text: str, place: str) -> str:
    """The lines of ``text`` that fit; ``place`` has the rest."""
    if len(text) <= _LONGEST_PART:
        return text
    return f"{text[: text.rindex(chr(10), 0, _LONGEST_PART)]}\n\n… and more, in `{place}`."


def _batches(new: Sequence[Entry]) -> str:
    if not new:
        return "No new batch."
    rows = [f"| {entry.batch} | {entry.version} | {entry.samples:,} | `{entry.sha256[:12]}` |" for entry in new]
    return "\n".join(["| batch | pool version | samples | SHA-256 |", "| --- | --- | --- | --- |", *rows])


def _decision(decision: Decision) -> str:
    rules = [f"- {'✓' if rule.holds else '✗'} {rule.name}: {rule.sentence}" for rule in decision.rules]
    notes = [f"- {note}" for note in decision.notes]
    return "\n".join([f"**{decision.outcome.replace('_', ' ')}**: {decision.reason}", "", *rules, *notes]).strip()
