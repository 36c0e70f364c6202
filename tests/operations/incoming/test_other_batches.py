"""Batches of a table and of other arrays: read as the data set's samples are, held by a shift of their values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedpipe.datasets.raw import RawDataset, Split
from fedpipe.errors import PipelineError
from fedpipe.samples.columns import CategoryColumn, Columns, NumberColumn
from fedpipe.samples.kind import Format, Numbers, Standard
from operations.drift.measures import compare, profile
from operations.incoming.batches import find, read
from tests.batches import add_hash

SPLIT = Split(images="samples", labels="labels")
COLUMNS = Columns(
    numbers=(NumberColumn(name="age", mean=50, deviation=10), NumberColumn(name="pulse", fill=70)),
    categories=(CategoryColumn(name="city", categories=("Bern", "Zug")),),
    label=("ill",),
    classes=("no", "yes"),
    client="ward",
)
TABLE = RawDataset(
    name="t", image_shape=(4,), classes=2, train=SPLIT, test=SPLIT, format=Format(samples="float32", columns=COLUMNS)
)
ROWS = pd.DataFrame(
    {
        "ill": ["yes", "no"],
        "age": [60, 45],
        "pulse": [80, None],
        "city": ["Zug", "Genf"],
        "ward": ["b", "a"],
        "x": [1, 2],
    }
)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_read_as_the_table_of_the_data_set(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"week-1.{form}"
    ROWS.to_csv(path, index=False) if form == "csv" else ROWS.to_parquet(path)
    add_hash(path)
    (candidate,), strays = find(tmp_path)
    batch = read(candidate, TABLE)
    assert not strays
    np.testing.assert_array_equal(batch.images, np.float32([[1, 80, 0, 1], [-0.5, 70, 0, 0]]))
    assert batch.labels.tolist() == [1, 0] and batch.labels.dtype == np.uint8
    assert batch.clients is not None and batch.clients.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (ROWS.drop(columns="age"), "week-1.csv has no column age"),
        (ROWS.assign(ill=["yes", "often"]), "column 'ill' has the label 'often', which no training row has"),
        (ROWS.assign(ward=["b", None]), "column 'ward' has no value in 1 of 2 rows"),
        (ROWS.assign(age=[60, "old"]), "column 'age' has 'old' in row 1, which is no finite number"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: pd.DataFrame, sentence: str) -> None:
    rows.to_csv(tmp_path / "week-1.csv", index=False)
    add_hash(tmp_path / "week-1.csv")
    with pytest.raises(PipelineError, match=sentence):
        read(find(tmp_path)[0][0], TABLE)


def test_arrays_of_numbers_are_standardised(tmp_path: Path) -> None:
    described = Format(
        samples="float32",
        numbers=Numbers(variances=(1.0,), edges=(0.0,)),
        standard=Standard(means=(1.0,), deviations=(2.0,)),
    )
    dataset = RawDataset(name="t", image_shape=(2,), classes=0, train=SPLIT, test=SPLIT, format=described)
    np.savez(tmp_path / "a.npz", x=np.array([[3.0, 1.0]]), y=np.array([4.5]))
    add_hash(tmp_path / "a.npz")
    batch = read(find(tmp_path)[0][0], dataset)
    np.testing.assert_array_equal(batch.images, np.float32([[1, 0]]))
    np.testing.assert_array_equal(batch.labels, np.float32([[4.5]]))


def test_a_shifted_column_stands_out_and_a_like_batch_does_not() -> None:
    rng = np.random.default_rng(0)
    samples, labels = rng.normal(size=(2000, 5)).astype(np.float32), rng.integers(0, 2, 2000)
    former = profile(samples, labels, 2)
    like = compare(former, rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 2, 200))
    assert [figure.name for figure in like] == ["label_mix", "shift"] and not any(f.stands_out for f in like)
    moved = rng.normal(size=(200, 5)).astype(np.float32) + np.float32([0, 0, 2, 0, 0])
    (shift,) = [figure for figure in compare(former, moved, rng.integers(0, 2, 200)) if figure.name == "shift"]
    assert shift.stands_out and abs(shift.value - 2) < 0.3
