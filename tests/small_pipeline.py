"""The pipeline, small: 1,000 real images over 250 clients for two rounds, evaluated on the whole test set.

So a round has two whole chunks of clients and a part of one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from fedpipe.datasets.shards import write_shards

SMALL = {
    "  scheme: contiguous": "  scheme: iid",
    "  clients: 600": "  clients: 250",
    "  leave_out: 0": "  leave_out: 59000",
    "  rounds: 10": "  rounds: 2",
    "  clients_per_round: all": "  clients_per_round: 230",
    "  local_epochs: 1": "  local_epochs: 2",
    "    learning_rate: 0.02": "    learning_rate: 0.1",
    "  client_test: none": "  client_test: same_distribution",
}


def edit(folder: Path, changes: dict[str, str]) -> None:
    """Replaces texts in params.yaml, each where it comes first."""
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def environment(raw: Path) -> dict[str, str]:
    """A user's environment, in which MNIST comes from ``raw``."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    return inherited | {"PATH": path, "FEDPIPE_MNIST_SOURCE": str(raw)}


def repro(folder: Path, raw: Path, cpus: set[int] | None = None, pipe: bool = False, **variables: str) -> str:
    """Runs ``dvc repro`` and returns what it said; through ``cat``, which ends only when no child is left, if asked."""
    command = "dvc repro 2>&1 | cat" if pipe else "dvc repro 2>&1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment(raw) | variables,
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def stages_run(output: str) -> list[str]:
    """The stages that ran, by what ``dvc repro`` said."""
    return re.findall(r"Running stage '(\w+)'", output)


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file of results, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("models", "metrics", "plots")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and path.parent.suffix != ".partial"
    }


def write_no_held_out_clients(project: Path) -> None:
    """Writes data/held_out_clients as the partition stage does where all clients train."""
    for name in ("clients", "tests"):
        folder = project / "data/held_out_clients" / name
        folder.mkdir(parents=True)
        write_shards(folder, "mnist", np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, np.uint8), [], 10)
