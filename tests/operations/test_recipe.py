"""Recipes: each composes with the defaults, `set` writes it, and `compare` says how the bits compare."""

import json
import subprocess
from pathlib import Path

import pytest

from fedpipe import params
from fedpipe.errors import PipelineError
from operations import recipe
from operations.table import definition, records
from tests import RECIPE, ROOT

NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the defaults, the recipes, and their table."""
    for name in ("recipes", "operations/table/tables"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_bytes((RECIPE / "params.yaml").read_bytes())
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "defaults"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_composes_with_the_defaults_and_changes_what_it_says(project: Path, name: str) -> None:
    (project / "params.yaml").write_text("changed: since\n")
    recipe.set_params(name)
    written = (project / "params.yaml").read_text(encoding="utf-8")
    assert params.load(params.Train, project / "params.yaml")
    assert "# Every param of the pipeline." in written
    assert (written == (RECIPE / "params.yaml").read_text(encoding="utf-8")) is (name == "baseline")


def test_an_unknown_recipe_gets_the_nearest_name_and_writes_nothing(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(PipelineError, match=r"no recipe 'convergd'; .*did you mean converged\?"):
        recipe.set_params("convergd")
    assert (project / "params.yaml").read_bytes() == before


def test_the_weights_are_compared_with_the_recorded_ones(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "metrics").mkdir()
    training = project / "metrics/training.json"
    training.write_text(json.dumps({"weights_sha256": "a" * 64}))
    recipe.compare("baseline")
    assert "baseline has no recorded result" in capsys.readouterr().out
    row = records.Row(
        cell="baseline_seed2024",
        seed=2024,
        outcome="finished",
        rounds=10,
        rounds_to_target=None,
        test_accuracy=0.7828,
        best_test_accuracy=0.7828,
        validation_accuracy=None,
        best_validation_accuracy=None,
        seconds=30.0,
        weights_sha256="a" * 64,
        commit="c",
        machine="m",
    )
    table = definition.load("recipes", (RECIPE / "params.yaml").read_text(encoding="utf-8"))
    records._write_rows(table, [row])
    recipe.compare("baseline")
    assert "same bits as the recorded run, test accuracy 0.7828 after 10 rounds, 0.5 minutes" in capsys.readouterr().out
    training.write_text(json.dumps({"weights_sha256": "b" * 64}))
    recipe.compare("baseline")
    assert "other bits than the recorded run, SHA-256 bbbbbbbbbbbb where aaaaaaaaaaaa" in capsys.readouterr().out


def test_every_recipe_of_the_folder_is_a_cell_of_the_table(project: Path) -> None:
    assert [cell.labels["recipe"] for cell in definition.read("recipes").cells] == NAMES
