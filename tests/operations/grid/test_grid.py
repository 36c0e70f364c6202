"""Small grids from the command to the picture: stopped, resumed, changed."""

from pathlib import Path

import pandas as pd
import pytest

from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from operations.grid.__main__ import GRIDS, grid_path, main, settings_of
from operations.grid.cells import read_grid
from tests import ROOT

ROBUSTNESS = """
data: {clients: 8, samples: 20, test: 300}
base: {model: logistic_regression, rounds: 2, client_optimizer: {learning_rate: 0.1}}
shares: [0.25]
attacks: {backdoor: {target: 0}}
defences: {mean: {}, bulyan: {attackers: $attackers}}
"""
ALGORITHM_GRID = """
data: {clients: 8, alpha: 0.3, min_size: 2, samples: 200, test: 300}
base: {model: logistic_regression, rounds: 3, client_optimizer: {learning_rate: 0.1}, seed: 3}
algorithms: {fed_avg: {}, scaffold: {}}
notes: {scaffold: a note}
"""


class Command:
    """The command in a folder with data/raw, with files of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.grid, self.table, self.picture = (folder / file for file in ("grid.yaml", "table.csv", "picture.png"))

    def run(self, text: str) -> pd.DataFrame:
        self.grid.write_text(text, encoding="utf-8")
        main([self.name, "--grid", str(self.grid), "--table", str(self.table), "--picture", str(self.picture)])
        return pd.read_csv(self.table)


@pytest.fixture
def command(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Command:
    monkeypatch.chdir(raw.parents[1])
    return Command(request.param, tmp_path)


robustness = pytest.mark.parametrize("command", ["robustness"], indirect=True)
algorithms = pytest.mark.parametrize("command", ["algorithms"], indirect=True)


@robustness
def test_cells_run_once_and_refusals_are_results(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    rows = command.run(ROBUSTNESS).set_index(["attack", "defence"])
    assert list(rows.index) == [(attack, way) for way in ("mean", "bulyan") for attack in ("no_attack", "backdoor")]
    assert rows.loc[("backdoor", "mean"), "test_backdoor"] >= 0 and rows["weights_sha256"].nunique() == 2
    assert "bulyan needs 11 clients in a round" in rows.loc[("backdoor", "bulyan"), "refused"]
    assert command.picture.read_bytes().startswith(b"\x89PNG")

    before = command.table.read_text(encoding="utf-8")
    command.table.write_text("".join(before.splitlines(keepends=True)[:2]), encoding="utf-8")  # stopped after a cell
    command.run(ROBUSTNESS)
    assert "4 cells, 3 to run" in capsys.readouterr().err
    assert command.table.read_text(encoding="utf-8") == before
    command.run(ROBUSTNESS)
    assert "4 cells, 0 to run" in capsys.readouterr().err
    assert command.table.read_text(encoding="utf-8") == before


@pytest.mark.slow
@algorithms
def test_algorithms_run_once(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    rows = command.run(ALGORITHM_GRID)
    assert list(zip(rows["algorithm"], rows["round"], strict=True)) == [
        (name, number) for name in ("fed_avg", "scaffold") for number in (1, 2, 3)
    ]
    assert (
        rows["test_accuracy"].between(0, 1).all() and rows.groupby("algorithm")["weights_sha256"].nunique().eq(1).all()
    )
    assert rows["weights_sha256"].nunique() == 2 and command.picture.read_bytes().startswith(b"\x89PNG")

    before, drawn = command.table.read_text(encoding="utf-8"), command.picture.read_bytes()
    command.table.write_text("".join(before.splitlines(keepends=True)[:4]), encoding="utf-8")  # stopped after FedAvg
    command.run(ALGORITHM_GRID)
    assert "2 cells, 1 to run" in capsys.readouterr().err
    assert command.table.read_text(encoding="utf-8") == before and command.picture.read_bytes() == drawn
    command.run(ALGORITHM_GRID.replace("scaffold: {}", "scaffold: {scaffold: {option: 1}}"))
    assert "2 cells, 1 to run" in capsys.readouterr().err
    assert command.table.read_text(encoding="utf-8") != before


@pytest.mark.slow
@algorithms
def test_clients_that_never_train_have_a_column(command: Command) -> None:
    rows = command.run(ALGORITHM_GRID.replace("{clients: 8,", "{clients: 8, held_out_clients: 2,"))
    assert rows["held_out_accuracy"].between(0, 1).all() and rows["updates"].tolist() == [6, 12, 18] * 2


@pytest.mark.slow
@algorithms
def test_an_asynchronous_algorithm_is_drawn_over_its_updates(command: Command) -> None:
    """Where not every round is evaluated, the others have no row."""
    own = "{rounds: 8, evaluate_every: 4, availability: {devices: {seconds_per_sample: 0.1}}}"
    rows = command.run(ALGORITHM_GRID.replace("scaffold: {}", f"fed_async: {own}"))
    assert rows[rows["algorithm"] == "fed_avg"]["updates"].tolist() == [8, 16, 24]
    asynchronous = rows[rows["algorithm"] == "fed_async"]
    assert asynchronous["round"].tolist() == asynchronous["updates"].tolist() == [4, 8]


@pytest.mark.parametrize("name", GRIDS)
def test_the_grids_of_the_documentation_are_those_of_the_committed_tables(name: str) -> None:
    """So `make heatmap` and `make compare` have nothing to run in a fresh clone."""
    table = pd.read_csv(ROOT / f"docs/tables/{name}.csv", dtype={"cell": str})
    cells = list(read_grid(GRIDS[name], grid_path(name)).cells())
    assert list(dict.fromkeys(table["cell"])) == [cell.key for cell in cells]
    assert tuple(table.columns) == GRIDS[name].COLUMNS


def test_the_grid_of_attacks_is_allowed_but_where_a_defence_has_too_few_clients() -> None:
    grid = read_grid(GRIDS["robustness"], grid_path("robustness"))
    cells = list(grid.cells())
    assert len({cell.key for cell in cells}) == len(cells) == 9 * (1 + 5 * 3)
    refusals = {(cell.labels["defence"], cell.labels["share"]): settings_of(grid, cell) for cell in cells}
    assert [key for key, settings in refusals.items() if isinstance(settings, str)] == [("bulyan", 0.3)]
    assert "needs" in str(refusals["bulyan", 0.3])


def test_the_comparison_of_algorithms_has_every_algorithm() -> None:
    grid = read_grid(GRIDS["algorithms"], grid_path("algorithms"))
    others = set(ALGORITHMS.names) - {"fed_bn"}  # which needs a model with batch normalization
    assert sorted(cell.labels["algorithm"] for cell in grid.cells()) == sorted(others)
    assert set(grid.notes) <= set(ALGORITHMS.names)  # type: ignore[attr-defined]
    for cell in grid.cells():
        assert not isinstance(settings_of(grid, cell), str)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("robustness", ROBUSTNESS.replace("[0.25]", "[1.5]"), r"'shares\.0' is 1\.5: should be less than 1"),
        (
            "algorithms",
            ALGORITHM_GRID.replace("fed_avg: {}, ", ""),
            "has no fed_avg, beside which the others are drawn: add",
        ),
    ],
)
def test_a_grid_that_is_wrong_is_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError, match=reason) as error:
        read_grid(GRIDS[name], tmp_path / "grid.yaml")
    assert str(error.value).endswith(f"operations/grid/{name}.yaml is right")


@algorithms
def test_an_algorithm_that_is_refused_is_named_before_any_training(command: Command) -> None:
    with pytest.raises(PipelineError, match="fed_sgd"):
        command.run(ALGORITHM_GRID.replace("scaffold: {}", "fed_sgd: {local_epochs: 2}"))
    assert not command.table.exists()


@pytest.mark.parametrize(
    ("command", "text"), [("robustness", ROBUSTNESS), ("algorithms", ALGORITHM_GRID)], indirect=["command"]
)
def test_a_secret_training_is_refused(command: Command, text: str) -> None:
    secret = "client_weighting: uniform, privacy: {noise: secret}, rounds:"
    private = text.replace("rounds:", secret).replace("{mean: {}", "{dp_gaussian: {}")
    private = private.replace("fed_avg: {}", "fed_avg: {aggregator: dp_gaussian}")
    with pytest.raises(PipelineError, match=r"'train.privacy.noise' is secret, and a table keeps the SHA-256"):
        command.run(private)
    assert not command.table.exists()
