"""Two algorithms from the command to the picture: stopped, gone on with, changed."""

from pathlib import Path

import pandas as pd
import pytest

from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from operations.comparison import __main__ as comparison
from operations.comparison import setting as settings_file

SMALL = """
data: {clients: 8, alpha: 0.3, min_size: 2, samples: 200, test: 300}
base: {model: logistic_regression, rounds: 3, client_optimizer: {learning_rate: 0.1}, seed: 3}
algorithms: {fed_avg: {}, scaffold: {}}
notes: {scaffold: a note}
"""


def test_algorithms_run_once(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(raw.parents[1])
    setting, table, picture = tmp_path / "setting.yaml", tmp_path / "table.csv", tmp_path / "picture.png"
    setting.write_text(SMALL, encoding="utf-8")
    arguments = ["--setting", str(setting), "--table", str(table), "--picture", str(picture)]
    comparison.main(arguments)
    rows = pd.read_csv(table)
    assert list(zip(rows["algorithm"], rows["round"], strict=True)) == [
        (name, number) for name in ("fed_avg", "scaffold") for number in (1, 2, 3)
    ]
    assert (
        rows["test_accuracy"].between(0, 1).all() and rows.groupby("algorithm")["weights_sha256"].nunique().eq(1).all()
    )
    assert rows["weights_sha256"].nunique() == 2 and picture.read_bytes().startswith(b"\x89PNG")

    before, drawn = table.read_text(encoding="utf-8"), picture.read_bytes()
    table.write_text("".join(before.splitlines(keepends=True)[:4]), encoding="utf-8")  # stopped after FedAvg
    comparison.main(arguments)
    assert "2 cells, 1 to run" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") == before and picture.read_bytes() == drawn
    setting.write_text(SMALL.replace("scaffold: {}", "scaffold: {scaffold: {option: 1}}"), encoding="utf-8")
    comparison.main(arguments)
    assert "2 cells, 1 to run" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") != before


def test_an_asynchronous_algorithm_is_drawn_over_its_updates(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not every round is evaluated, the others have no row."""
    monkeypatch.chdir(raw.parents[1])
    own = "{rounds: 8, evaluate_every: 4, availability: {devices: {seconds_per_sample: 0.1}}}"
    setting, table = tmp_path / "setting.yaml", tmp_path / "table.csv"
    setting.write_text(SMALL.replace("scaffold: {}", f"fed_async: {own}"), encoding="utf-8")
    comparison.main(["--setting", str(setting), "--table", str(table), "--picture", str(tmp_path / "picture.png")])
    rows = pd.read_csv(table)
    assert rows[rows["algorithm"] == "fed_avg"]["updates"].tolist() == [8, 16, 24]
    found = rows[rows["algorithm"] == "fed_async"]
    assert found["round"].tolist() == found["updates"].tolist() == [4, 8]


def test_the_setting_of_the_documentation_has_every_algorithm() -> None:
    setting = settings_file.read(Path(settings_file.__file__).with_name("algorithms.yaml"))
    cells = list(settings_file.cells(setting))
    assert sorted(cell.algorithm for cell in cells) == sorted(ALGORITHMS.names)
    assert len({cell.key for cell in cells}) == len(cells) and set(setting.notes) <= set(ALGORITHMS.names)


def test_a_setting_without_the_baseline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "setting.yaml").write_text(SMALL.replace("fed_avg: {}, ", ""), encoding="utf-8")
    with pytest.raises(PipelineError, match="has no fed_avg, beside which the others are drawn: add"):
        settings_file.read(tmp_path / "setting.yaml")


def test_a_secret_training_is_refused(tmp_path: Path) -> None:
    secret = "aggregator: dp_gaussian, client_weighting: uniform, privacy: {noise: secret}, rounds: 3"
    small = SMALL.replace("rounds: 3", secret).replace("scaffold: {}", "fed_prox: {}")
    (tmp_path / "setting.yaml").write_text(small, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"'train.privacy.noise' is secret, and a table keeps the SHA-256"):
        list(settings_file.cells(settings_file.read(tmp_path / "setting.yaml")))
