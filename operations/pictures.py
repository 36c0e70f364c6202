"""``python -m operations.pictures [NAME ...]``: draws the pictures of README and docs from committed results.

Beside them, docs/images/pictures.json keeps a SHA-256 of each one's inputs. A test compares it with the checkout, so a
picture of other results is noticed; a slow test draws all anew and compares their pixels. Screenshots are taken by
``make screenshots``.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from layout import PARAMS, PARTITION_PICTURE, RAW, ROUNDS
from operations.retrain import overrides

IMAGES = Path("docs/images")
RESULTS = Path("docs/results")
DIGESTS = IMAGES / "pictures.json"
_PAGE = ("operations/report/page.css", "operations/report/page.html.jinja")
_VIEWS = ("fedpipe/tracking/views.py",)
_OF_A_TABLE = ("rounds.csv", "runs.csv", "params.json")


@dataclass(frozen=True)
class Picture:
    """A picture of the docs.

    Attributes:
      inputs: The files whose content it shows, relative to the checkout.
      plot: Writes it to a path; None for a screenshot.
    """

    inputs: tuple[str, ...]
    plot: Callable[[Path], None] | None = None


def pictures() -> dict[Path, Picture]:
    """All pictures of README and docs."""
    grids = {
        IMAGES / f"{name}.png": Picture(
            (f"docs/tables/{name}.csv", f"operations/grid/{name}.yaml"),
            lambda path, name=name: _plot_grid(name, path),  # type: ignore[misc]
        )
        for name in ("robustness", "algorithms")
    }
    curves = {
        folder / "curves.png": Picture(
            (*(f"{folder}/{file}" for file in _OF_A_TABLE), f"operations/table/tables/{folder.name}.yaml"),
            lambda path, name=folder.name: _plot_curves(name, path),  # type: ignore[misc]
        )
        for folder in sorted(path.parent for path in RESULTS.glob("*/runs.csv"))
    }
    return {
        IMAGES / "training.png": Picture((str(ROUNDS),), _plot_training),
        # Of MNIST, which never changes.
        IMAGES / "partition-dirichlet.png": Picture((), lambda path: _plot_partition(path, _DIRICHLET)),
        IMAGES / "partition-skew.png": Picture((), lambda path: _plot_partition(path, _SKEW)),
        IMAGES / "load.png": Picture(("benchmarks/results.json",), _plot_load),
        **grids,
        **curves,
        **{IMAGES / f"report-{name}.png": Picture(_PAGE) for name in ("one", "two")},
        **{IMAGES / f"mlflow-{name}.png": Picture(_VIEWS) for name in ("runs", "chart", "run", "model")},
        # Of a former version, for comparison (docs/tracking.md): nothing makes them anew.
        **{IMAGES / f"mlflow-{name}-before.png": Picture(()) for name in ("runs", "model")},
    }


_DIRICHLET = ("partition.scheme=dirichlet", "partition.dirichlet.alpha=0.5")
_SKEW = (
    *_DIRICHLET,
    "partition.clients=20",
    "partition.features.rotation=40",
    "partition.features.contrast=0.5",
    "partition.features.background=0.3",
    "partition.features.noise=0.2",
    "partition.concept.share=0.2",
)


def digest(picture: Picture, root: Path = Path()) -> str:
    """SHA-256 of a picture's inputs."""
    total = hashlib.sha256()
    for name in picture.inputs:
        total.update(hashlib.sha256((root / name).read_bytes()).digest())
    return total.hexdigest()


def record(path: Path) -> None:
    """Notes that a picture shows its present inputs."""
    digests = read_digests()
    digests[path.as_posix()] = digest(pictures()[path])
    write_text(DIGESTS, json.dumps(dict(sorted(digests.items())), indent=2) + "\n")


def read_digests(root: Path = Path()) -> dict[str, str]:
    """The digest with which each picture was made."""
    path = root / DIGESTS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _plot_training(path: Path) -> None:
    """Loss and accuracy of the committed run."""
    from fedpipe.runtime.records import RoundRecord, plot

    table = pd.read_csv(ROUNDS)
    columns = {"loss": "train_loss", "accuracy": "train_accuracy"}
    names = ["loss", "accuracy", "clients", "non_finite", "examples", "bytes_down", "bytes_up"]
    names += ["test_loss", "test_accuracy"]
    records = [
        RoundRecord(int(row["round"]), **{name: row[columns.get(name, name)] for name in names})
        for row in table.to_dict("records")
    ]
    plot(records, f"The committed run: test accuracy {table['test_accuracy'].iloc[-1]:.4f}", path)


def _plot_partition(path: Path, settings: Sequence[str]) -> None:
    """The partition stage's picture of MNIST, with these params."""
    if not RAW.is_dir():
        raise PipelineError(f"{RAW} is missing: run `make repro` first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / PARAMS).write_bytes(PARAMS.read_bytes())
        overrides.apply(settings, folder / PARAMS)
        (folder / RAW).parent.mkdir(parents=True)
        (folder / RAW).symlink_to(RAW.resolve())
        environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "FEDPIPE_TRACKING": "off"}
        subprocess.run([sys.executable, "-m", "stages.partition"], cwd=folder, env=environment, check=True)
        path.write_bytes((folder / PARTITION_PICTURE).read_bytes())


def _plot_load(path: Path) -> None:
    from benchmarks.load import plot

    plot(path)


def _plot_grid(name: str, path: Path) -> None:
    """A grid's picture from its table, without training."""
    from operations.grid.__main__ import GRIDS, grid_path
    from operations.grid.cells import read_grid, read_table

    grid = read_grid(GRIDS[name], grid_path(name))
    grid.plot(read_table(Path(f"docs/tables/{name}.csv"), grid.COLUMNS), path)


def _plot_curves(name: str, path: Path) -> None:
    from operations.table import curves, definition, records
    from operations.table.groups import groups

    table = definition.read(name)
    ran = [group for group in groups(table, records.read(name)) if group.rows]
    curves.plot(table, ran, records.read_curves(name), path)


def _main() -> None:
    known: dict[str, Any] = {str(path): each for path, each in pictures().items() if each.plot}
    parser = argparse.ArgumentParser(description=__doc__, **make_command("pictures"))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", choices=[[], *known], help=f"of {', '.join(known)}; else all"
    )
    for name in parser.parse_args().names or known:
        known[name].plot(Path(name))
        record(Path(name))
        print(f"pictures: {name}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(_main)
