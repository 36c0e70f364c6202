"""The tutorial notebook runs in a real kernel, and its outputs are kept in it."""

import copy
import shutil
from pathlib import Path

import pytest

from tests import ROOT

NOTEBOOK = ROOT / "docs/tutorial.ipynb"


def test_outputs_are_kept_and_none_is_an_error_or_a_path() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make env")
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert "/tmp/" not in NOTEBOOK.read_text() and "/home/" not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_it_runs_in_a_kernel_with_the_outputs_that_are_kept(raw: Path, tmp_path: Path) -> None:
    """Texts and pictures, to the bit: that is what the project promises."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make env")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make env")
    shutil.copytree(ROOT / "fedpipe", tmp_path / "fedpipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(raw, tmp_path / "data/raw")
    (tmp_path / "docs").mkdir()
    kept = nbformat.read(NOTEBOOK, 4)
    notebook = copy.deepcopy(kept)
    resources = {"metadata": {"path": str(tmp_path / "docs")}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    for cell, expected in zip(notebook.cells, kept.cells, strict=True):
        assert cell.get("outputs") == expected.get("outputs"), cell.source
