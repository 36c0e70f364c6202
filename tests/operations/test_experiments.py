"""DVC's tables and plots: `make experiments` fits a wide terminal, and every plot has titles on both axes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fedpipe.config import read_yaml
from tests import ROOT


def test_the_experiments_fit_120_columns(clone: Callable[[str], Path]) -> None:
    folder = clone("experiments")
    changes = {
        "params.yaml": [("  rounds: 10", "  rounds: 11"), ("  scheme: contiguous", "  scheme: dirichlet")],
        "metrics/evaluation.json": [('"accuracy": 0.', '"accuracy": 0.1'), ('"worst": 0.', '"worst": 0.1')],
        "metrics/partition.json": [('"mean": ', '"mean": 1')],
    }
    for name, edits in changes.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (unshown,) = re.findall(r"^UNSHOWN := (.*)$", makefile, re.MULTILINE)
    command = [sys.executable, "-m", "dvc", "exp", "show", "--no-pager", "--only-changed", "--drop", unshown]
    environment = os.environ | {"COLUMNS": "120", "DVC_NO_ANALYTICS": "true"}
    shown = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    (head,) = [line for line in shown.splitlines() if "Experiment" in line]
    assert head.split() == ["Experiment", "test.accuracy", "partition.scheme", "train.rounds"]
    assert max(map(len, shown.splitlines())) <= 120


def test_every_plot_has_titles_on_both_axes_and_confusion_has_the_picture_s() -> None:
    definition = read_yaml(ROOT / "dvc.yaml")
    plots = [plot for plot in definition["plots"] if isinstance(plot, dict)]
    plots += [each for stage in definition["stages"].values() for each in stage.get("plots", [])]
    options = {name: settings for plot in plots for name, settings in plot.items()}
    number = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[len(options)]
    assert f"`dvc.yaml` names {number} plots" in (ROOT / "docs/comparing.md").read_text(encoding="utf-8")
    for name, settings in options.items():
        assert {"x", "y", "x_label", "y_label"} <= set(settings), name
    confusion = options["Confusion on the test images"]
    assert (confusion["x"], confusion["y"]) == ("predicted", {"plots/predictions.csv": "actual"})
