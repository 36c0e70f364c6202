"""docs/extending.md, "A partition scheme": its example, dropped into the folder of a clone, partitions MNIST."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.stages.test_pipeline import environment

pytestmark = pytest.mark.slow


def section(title: str) -> str:
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def block(text: str, language: str) -> str:
    (content,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return content


def test_the_example_of_a_scheme_partitions_mnist(clone: Callable[[str], Path], raw: Path) -> None:
    folder, text = clone("extended"), section("A partition scheme")
    named = re.search(r"`(fedpipe/partitioners/\w+\.py)`:\n", text)
    assert named
    (folder / named[1]).write_text(block(text, "python"), encoding="utf-8")
    content = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
    content["partition"] |= YAML(typ="safe").load(block(text, "yaml"))["partition"] | {"quantity": "linear"}
    YAML(typ="safe").dump(content, folder / "params.yaml")
    done = subprocess.run(
        ["dvc", "repro", "partition"], cwd=folder, env=environment(raw), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "600 clients (scheme similarity, quantity linear)" in done.stderr + done.stdout

    counts = pd.read_csv(folder / "data/clients/labels.csv", index_col="client").to_numpy()
    sizes = counts.sum(axis=1)
    # With equal weights per step of i + 1, the last client has 600 times the samples of the first.
    assert sizes.sum() == 60_000 and (np.diff(sizes) >= 0).all()
    large = counts[300:]
    # Half of a client's samples are of all labels alike, half of a run of the sorted ones: one or two labels.
    assert (np.sort(large, axis=1)[:, -2:].sum(axis=1) > 0.5 * large.sum(axis=1)).all()
    assert ((large > 0).sum(axis=1) >= 9).all()
    lock = YAML(typ="safe").load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]["partition"]
    assert named[1] in [dep["path"] for dep in lock["deps"]]
    assert lock["params"]["params.yaml"]["partition.similarity"] == {"share": 0.5}


def test_the_example_is_formatted_as_the_code_is(tmp_path: Path) -> None:
    path = tmp_path / "similarity.py"
    path.write_text(block(section("A partition scheme"), "python"), encoding="utf-8")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            ["ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
