"""A small grid from the command to the picture: stopped, gone on with, changed."""

from pathlib import Path

import pandas as pd
import pytest

from fedpipe.errors import PipelineError
from operations.heatmap import __main__ as heatmap
from operations.heatmap import grid as grids

SMALL = """
data: {clients: 8, samples: 20, test: 300}
base: {model: logistic_regression, rounds: 2, client_optimizer: {learning_rate: 0.1}}
shares: [0.25]
attacks: {backdoor: {target: 0}}
defences: {mean: {}, bulyan: {attackers: $attackers}}
"""


def test_cells_run_once_and_refusals_are_results(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(raw.parents[1])
    grid, table, picture = tmp_path / "grid.yaml", tmp_path / "table.csv", tmp_path / "picture.png"
    grid.write_text(SMALL, encoding="utf-8")
    arguments = ["--grid", str(grid), "--table", str(table), "--picture", str(picture)]
    heatmap.main(arguments)
    rows = pd.read_csv(table).set_index(["attack", "defence"])
    assert list(rows.index) == [(attack, way) for way in ("mean", "bulyan") for attack in ("no_attack", "backdoor")]
    assert rows.loc[("backdoor", "mean"), "test_backdoor"] >= 0 and rows["weights_sha256"].nunique() == 2
    assert "bulyan needs 11 clients in a round" in rows.loc[("backdoor", "bulyan"), "refused"]
    assert picture.read_bytes().startswith(b"\x89PNG")

    before = table.read_text(encoding="utf-8")
    table.write_text("".join(before.splitlines(keepends=True)[:2]), encoding="utf-8")  # stopped after the first cell
    heatmap.main(arguments)
    assert "4 cells, 3 to run" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") == before
    heatmap.main(arguments)
    assert "4 cells, 0 to run" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") == before


def test_the_grid_of_the_documentation_is_right() -> None:
    grid = grids.read(Path(grids.__file__).with_name("robustness.yaml"))
    cells = list(grids.cells(grid))
    assert len({cell.key for cell in cells}) == len(cells) == 9 * (1 + 5 * 3)
    refused = []
    for cell in cells:
        try:
            cell.settings()
        except PipelineError as error:
            assert "needs" in str(error)
            refused.append((cell.defence, cell.share))
    assert set(refused) == {("bulyan", 0.3)}


def test_a_grid_that_is_wrong_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(SMALL.replace("[0.25]", "[1.5]"), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"'shares\.0' is .*: should be less than 1"):
        grids.read(tmp_path / "grid.yaml")


def test_a_secret_training_is_refused(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(raw.parents[1])
    grid = tmp_path / "grid.yaml"
    secret = "client_weighting: uniform, privacy: {noise: secret}, rounds: 2"
    grid.write_text(SMALL.replace("rounds: 2", secret).replace("mean: {}", "dp_gaussian: {}"), encoding="utf-8")
    arguments = ["--grid", str(grid), "--table", str(tmp_path / "t.csv"), "--picture", str(tmp_path / "p.png")]
    with pytest.raises(PipelineError, match=r"'train.privacy.noise' is secret, and a table keeps the SHA-256"):
        heatmap.main(arguments)
    assert not (tmp_path / "t.csv").exists()
