"""Charts of the last commit's results beside this retraining's: those of the report, as files of their own."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fedpipe.errors import PipelineError
from layout import CHAMPION_MARKER, CLASS_TABLE, CLIENT_TABLE, ROUNDS, TRAINING
from operations import commands
from operations.report import charts

# The page of the report has a ground; a picture on its own needs one, since GitHub's theme need not be the system's.
_GROUND = (
    "<style>:root{background:#fff}@media screen and (prefers-color-scheme:dark){:root{background:#0d1117}}</style>"
)


def comparisons() -> Iterator[tuple[str, str, bytes]]:
    """Yields name, title and SVG of each chart; none where the training left no results."""
    if not ROUNDS.is_file():
        return
    sides = [_committed, Path.read_bytes] if commands.committed(ROUNDS) is not None else [Path.read_bytes]
    names = [_name_of_the_last_commit(), "this retraining"][-len(sides) :]

    def tables(path: Path) -> list[pd.DataFrame]:
        return [pd.read_csv(io.BytesIO(read(path))) for read in sides]

    beside = f": {' and '.join(names)}" if len(names) > 1 else ""
    rounds = tables(ROUNDS)
    if all("test_accuracy" in table and table["test_accuracy"].notna().any() for table in rounds):
        drawn = charts.curves(rounds, names, "test_accuracy", "accuracy on the test images")
        yield "accuracy.svg", f"Accuracy per round{beside}", _svg(drawn)
    if _are_everywhere(CLASS_TABLE, len(sides)):
        yield "classes.svg", f"Recall of each class{beside}", _svg(charts.recall(tables(CLASS_TABLE), names))
    if _are_everywhere(CLIENT_TABLE, len(sides)):
        accuracies = [table["train_accuracy"] for table in tables(CLIENT_TABLE)]
        if any(each.isna().all() for each in accuracies):  # withheld, for secret noise or by sites
            return
        drawn = charts.client_quantiles(accuracies, names)
        yield "clients.svg", f"Accuracy of the clients, the worst first{beside}", _svg(drawn)


def _name_of_the_last_commit() -> str:
    """``champion`` if its results are those of the champion that it names."""
    try:
        weights = json.loads(_committed(TRAINING))["weights_sha256"]
        return "champion" if json.loads(_committed(CHAMPION_MARKER))["weights_sha256"] == weights else "last commit"
    except (PipelineError, ValueError, KeyError):
        return "last commit"


def _are_everywhere(path: Path, sides: int) -> bool:
    return path.is_file() and (sides == 1 or commands.committed(path) is not None)


def _committed(path: Path) -> bytes:
    return (commands.committed(path) or "").encode()


def _svg(address: str) -> bytes:
    svg = base64.b64decode(address.partition(",")[2]).decode()
    return svg.replace("</style>", f"</style>{_GROUND}", 1).encode()
