"""Rows in, docs/results.md out: means and deviations, the best of a grid, beside what is published."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from operations.table import records, results
from operations.table.definition import Table
from operations.table.groups import groups
from operations.table.records import Row
from tests.operations.table.test_definition import SMALL, load

CURVE = pd.DataFrame({"round": [1, 2], "test_loss": [2.0, 1.0], "test_accuracy": [0.5, 0.8]})
TARGET: dict[str, Any] = {
    "measure": "rounds_to_target",
    "base": {"train": {"model": "logistic_regression", "selection": "test", "stop_at": {"accuracy": 0.8}}},
    "published": [{"name": "paper", "source": "A paper", "figures": [{"split": "iid", "value": 20}]}],
}


def row(cell: str, **more: Any) -> Row:
    known: dict[str, Any] = {
        "seed": int(cell[-1]),
        "outcome": "finished",
        "rounds": 50,
        "rounds_to_target": None,
        "test_accuracy": 0.5,
        "best_test_accuracy": 0.6,
        "validation_accuracy": None,
        "best_validation_accuracy": None,
        "seconds": 10.0,
        "weights_sha256": "ab" * 32,
        "commit": "c0ffee",
        "machine": "m1",
    }
    return Row(cell=cell, **(known | more))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """`SMALL`, in a project without results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "operations/table/tables").mkdir(parents=True)
    return load(tmp_path / "operations/table/tables", SMALL)


def add(table: Table, *rows: Row) -> None:
    for each in rows:
        records.add(table, each, CURVE, {"cpu": "a CPU"})


def page() -> str:
    results.write()
    return results.PAGE.read_text(encoding="utf-8")


def test_the_best_of_the_grid_beside_the_published(table: Table) -> None:
    add(table, row("iid_0.2_seed1", test_accuracy=0.93), row("iid_0.2_seed2", test_accuracy=0.91, seconds=20.0))
    add(table, row("iid_0.1_seed2", test_accuracy=0.99))  # with fewer seeds, so it does not count
    text = page()
    assert "| iid | 0.2 (1 of 2 tried) | 92.00 % ± 1.41 | 90.0 % | +2.00 points | 15 |" in text
    assert "5 of 8 cells have not been run: `iid_0.1_seed1`, `as_it_is_0.1_seed1`" in text
    add(table, row("iid_0.1_seed1", test_accuracy=0.99))
    assert "| iid | 0.1 | 99.00 % ± 0.00 | 90.0 % | +9.00 points | 10 |" in page()


def test_clients_that_never_trained_have_a_column(table: Table) -> None:
    add(table, row("iid_0.2_seed1", held_out_accuracy=0.8), row("iid_0.2_seed2", held_out_accuracy=0.9))
    assert records.read(table.name)["iid_0.2_seed1"].held_out_accuracy == 0.8
    text = page()
    assert "| accuracy of clients that never trained |" in text and "| 85.00 % ± 7.07 |" in text


def test_what_ran_with_some_of_the_seeds_says_with_which(table: Table) -> None:
    add(table, row("iid_0.1_seed2", test_accuracy=0.9), row("iid_0.2_seed2", test_accuracy=0.8))
    add(table, row("as_it_is_0.1_seed1"), row("as_it_is_0.1_seed2"))
    text = page()
    assert "| seconds per run | seeds |" in text
    assert "| iid | 0.1 | 90.00 % | 90.0 % | +0.00 points | 10 | 2 |" in text
    assert "| as_it_is | 0.1 (1 of 2 tried) | 50.00 % ± 0.00 |  |  | 10 | 1, 2 |" in text


def test_rounds_to_a_target(table: Table, tmp_path: Path) -> None:
    table = load(tmp_path / "operations/table/tables", SMALL | TARGET)
    add(table, row("iid_0.1_seed1", rounds_to_target=30, rounds=30), row("iid_0.1_seed2", rounds_to_target=34))
    add(table, row("iid_0.2_seed1", rounds_to_target=3, rounds=3), row("iid_0.2_seed2"))
    add(table, row("as_it_is_0.1_seed1", rounds_to_target=9), row("as_it_is_0.1_seed2"))
    text = page()
    assert "| iid | 0.1 | 32.0 ± 2.8 | 20 | 1.60 times | 10 |" in text
    assert "| as_it_is | 0.1 (1 of 2 tried) | not within 50 (1 of 2 seeds) |" in text


def test_a_rate_is_selected_on_the_validation_samples_where_there_are_any(table: Table) -> None:
    """The value that is better on the test images is worse on the validation samples, and so does not count."""
    seeds = (1, 2)
    add(table, *(row(f"iid_0.1_seed{seed}", test_accuracy=0.9, validation_accuracy=0.7) for seed in seeds))
    add(table, *(row(f"iid_0.2_seed{seed}", test_accuracy=0.8, validation_accuracy=0.75) for seed in seeds))
    text = page()
    assert "`rate` was selected on the validation images." in text and "| iid | 0.2 | 80.00 % ± 0.00 |" in text
    add(table, row("iid_0.1_seed1", test_accuracy=0.9), row("iid_0.1_seed2", test_accuracy=0.9))  # one has none
    text = page()
    assert "`rate` was selected on the test images." in text and "| iid | 0.1 | 90.00 % ± 0.00 |" in text


def test_rows_of_before_there_were_validation_samples_are_read(table: Table) -> None:
    add(table, row("iid_0.1_seed1"))
    path = records.RESULTS / "small/runs.csv"
    pd.read_csv(path).drop(columns=["validation_accuracy", "best_validation_accuracy"]).to_csv(path, index=False)
    assert records.read("small") == {"iid_0.1_seed1": row("iid_0.1_seed1")}


def test_a_diverged_value_is_no_best_one(table: Table) -> None:
    nothing = dict.fromkeys(("rounds", "test_accuracy", "best_test_accuracy", "seconds"))
    add(table, *(row(f"iid_0.1_seed{seed}", outcome="diverged", weights_sha256="", **nothing) for seed in (1, 2)))
    add(table, *(row(f"iid_0.2_seed{seed}", test_accuracy=0.2) for seed in (1, 2)))
    (group,) = (group for group in groups(table, records.read("small")) if group.rows)
    assert (group.best, group.tried) == (("0.2",), 2)
    assert records.read("small")["iid_0.1_seed1"].test_accuracy is None


def test_rows_are_in_the_table_s_order_and_read_as_written(table: Table) -> None:
    rows = [row("iid_0.2_seed1"), row("iid_0.1_seed2", test_accuracy=0.1), row("iid_0.2_seed1", test_accuracy=0.7)]
    add(table, *rows)
    assert list(records.read("small").values()) == [rows[1], rows[2]]
    curves = records.read_curves("small")
    assert curves["cell"].tolist() == ["iid_0.1_seed2"] * 2 + ["iid_0.2_seed1"] * 2
    assert curves["test_accuracy"].tolist() == [0.5, 0.8, 0.5, 0.8]
    assert records.read_machines() == {"m1": {"cpu": "a CPU"}}


def test_a_cell_with_other_params_counts_as_not_run(table: Table, tmp_path: Path) -> None:
    add(table, row("iid_0.1_seed1"))
    assert list(records.finished(table)) == ["iid_0.1_seed1"]
    changed = load(tmp_path / "operations/table/tables", SMALL | {"base": {"train": {"rounds": 11}}})
    assert not records.finished(changed)


def test_a_new_key_does_not_make_a_cell_run_again() -> None:
    before, now = {"train": {"rounds": 1, "gone": 1}}, {"train": {"rounds": 1, "new": 2}}
    assert not records.changed(before, now)
    assert records.changed(before, {"train": {"rounds": 2}}) == ["train.rounds"]


def test_the_same_rows_give_the_same_bytes(table: Table) -> None:
    add(table, row("iid_0.1_seed1"), row("iid_0.1_seed2"))
    page()
    picture = records.RESULTS / "small/curves.png"
    before = picture.read_bytes()
    page()
    assert picture.read_bytes() == before
