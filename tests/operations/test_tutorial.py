"""The tutorial notebook: what it shows, and that its kept outputs are those of a real kernel."""

import re
import shutil
from pathlib import Path

import pytest

from operations import tutorial
from tests import ROOT

PAGE = ROOT / tutorial.NOTEBOOK
CELLS = tutorial.read(PAGE).cells
CODE = [cell for cell in CELLS if cell.cell_type == "code"]


def test_the_notebook_goes_from_data_to_the_pipeline() -> None:
    """Each of its parts is there, in order, and every cell has run in one go, with text and pictures only."""
    texts = [cell.source for cell in CELLS if cell.cell_type == "markdown"]
    headings = [line for text in texts for line in re.findall("^#+ .*", text, re.M)]
    assert [line.lstrip("# ") for line in headings] == [
        "A first federated training",
        "Data",
        "Clients",
        "FedAvg",
        "FedProx and SCAFFOLD",
        "Between two baselines",
        "A longer training",
        "A model of your own",
        "Predictions",
        "To the pipeline",
    ]
    assert "make repro" in CELLS[-1].source
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell.outputs]
    assert {output.get("name") for output in outputs if output.output_type == "stream"} == {"stdout"}
    assert {output.output_type for output in outputs} == {"stream", "execute_result"}
    pictures = [cell.id for cell in CODE for output in cell.outputs if "image/png" in output.get("data", {})]
    assert pictures == ["split", "curves", "bounds", "predict"]


def test_the_notebook_is_small_and_says_nothing_of_the_machine_that_ran_it() -> None:
    content = PAGE.read_text(encoding="utf-8")
    assert PAGE.stat().st_size < 1_000_000
    assert not re.search(r"/(home|root|tmp|work|usr)/|[Ww]arning|\d s left|20\d\d-\d\d-\d\d", content)
    for target in re.findall(r"\]\(([\w-]+\.md)", content):
        assert (PAGE.parent / target).is_file(), target


def test_rounds_are_one_line_each() -> None:
    (shown,) = (cell.outputs for cell in CODE if cell.id == "train")
    assert re.fullmatch(r"(round \d+: accuracy train 0\.\d{4}, test 0\.\d{4}\n){10}", shown[0].text) and len(shown) == 1


@pytest.mark.slow
def test_a_kernel_gives_the_outputs_that_are_kept(raw: Path, tmp_path: Path) -> None:
    """Text is the same to the last digit, and pictures are where they were."""
    for name in ("docs", "data"):
        (tmp_path / name).mkdir()
    shutil.copy(PAGE, tmp_path / "docs")
    (tmp_path / "fedpipe").symlink_to(ROOT / "fedpipe")
    (tmp_path / "data/raw").symlink_to(raw)
    notebook = tutorial.read(tmp_path / tutorial.NOTEBOOK)
    kept = tutorial.texts(notebook)
    assert tutorial.texts(tutorial.run(notebook, tmp_path / "docs")) == kept
