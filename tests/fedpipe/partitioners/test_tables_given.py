"""Tables that a user gives: natural partitions, sizes and proportions, pinned by their SHA-256."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign, client_names
from tests.fedpipe.partitioning.settings import balanced_labels, counts_of, csv, partition

LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def natural(tmp_path: Path, text: str, **changed: Any) -> Any:
    """A request by the column writer of a table with this text."""
    table = csv(tmp_path / "writers.csv", text)
    return partition(scheme="by_column", by_column=table | {"column": "writer"}, **{"clients": 3} | changed)


def test_by_column_follows_the_table(tmp_path: Path) -> None:
    """In any order of rows; clients are numbered in the order of their names, NA being a name like others."""
    params = natural(tmp_path, "writer,sample,age\nzoe,5,1\nbob,0,2\nNA,1,3\nzoe,2,4\nbob,3,5\nNA,4,6\n")
    assert assign(LABELS, params).tolist() == [1, 0, 2, 1, 0, 2]
    names = client_names(params)
    assert names is not None and names.to_dict("list") == {"client": [0, 1, 2], "name": ["NA", "bob", "zoe"]}


def test_numbers_are_names_in_their_order(tmp_path: Path) -> None:
    params = natural(tmp_path, "sample,writer\n0,10\n1,9\n2,9\n3,100\n4,10\n5,9\n")
    assert assign(LABELS, params).tolist() == [1, 0, 0, 2, 1, 0]


def test_by_column_leaves_out_whom_it_does_not_name(tmp_path: Path) -> None:
    """Sample 1 has no row, and the row of sample 4 no name."""
    params = natural(tmp_path, "sample,writer\n0,a\n2,b\n3,c\n4,\n5,a\n", leave_out=2)
    assert assign(LABELS, params).tolist() == [0, LEFT_OUT, 1, 2, LEFT_OUT, 0]


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        ("0,a\n1,b\n2,c\n3,a\n4,a\n6,a\n", {}, "names sample 6, but the 6 training samples are 0 to 5"),
        ("0,a\n1,b\n2,c\n3,a\n4,a\n5,a\n3,b\n", {}, "names sample 3 2 times; once is right"),
        (
            "0,a\n1,b\n3,c\n5,a\n",
            {"leave_out": 1},
            r"names no client for 2 of the 6 .*first is sample 2\), but 'partition.leave_out' .* is 1; .* set it to 2",
        ),
        ("0,a\n1,b\n2,c\n3,a\n4,a\n5,a\n", {"leave_out": 3}, "names no client for 0 of the 6 .* set it to 0"),
        ("0,a\n1,b\n2,c\n3,a\n4,a\n5,a\n", {"clients": 5}, "is 5, but column 'writer' .* names 3 .* set it to 3"),
        ("0,a\nx,b\n", {}, "row 2: column 'sample' is 'x', which is not a whole number from 0 on"),
        ("-1,a\n", {}, "column 'sample' is '-1', which is not a whole number"),
    ],
)
def test_by_column_refuses(tmp_path: Path, text: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(LABELS, natural(tmp_path, "sample,writer\n" + text, **changed))


def test_a_table_is_pinned(tmp_path: Path) -> None:
    """DVC does not watch the file: a change that no param shows must not pass."""
    params = natural(tmp_path, "sample,writer\n0,a\n")
    path = tmp_path / "writers.csv"
    path.write_text("sample,writer\n0,b\n", encoding="utf-8")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(PipelineError, match=f"writers.csv has the SHA-256 {actual}, but 'partition.by_column.sha256'"):
        assign(LABELS, params)
    path.unlink()
    with pytest.raises(
        PipelineError, match=r"'partition.by_column.table' is '.*writers.csv', but there is no such file"
    ):
        assign(LABELS, params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a CSV file in UTF-8: No columns"),
        ("sample,name\n0,a\n", "has no column 'writer'; it needs sample, writer and has sample, name"),
        ("sample,writer\n0,a,x\n1,b,x\n", "writers.csv has rows of more cells than the 2 that its first line names"),
        ('sample,writer\n0,"a\n', "is not a CSV file in UTF-8"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(LABELS, natural(tmp_path, text))


def proportions(tmp_path: Path, text: str) -> Any:
    table = csv(tmp_path / "mixes.csv", text)
    return partition(scheme="distribution", clients=2, distribution=table)


def test_distribution_from_a_table(tmp_path: Path) -> None:
    """Columns by name and rows by client, in any order; thirds with three digits sum to 1 within the tolerance."""
    params = proportions(tmp_path, "client,2,0,1\n1,0.333,0.333,0.333\n0,0.333,0.333,0.333\n")
    assert counts_of(LABELS, params).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_the_mixes_of_a_partition_give_it_again(tmp_path: Path) -> None:
    """labels.csv as proportions, four digits: the same counts, all samples dealt out."""
    labels = balanced_labels(2_000)
    wide = counts_of(labels, partition(scheme="inner_dirichlet", clients=20))
    mixes = pd.DataFrame(wide / wide.sum(axis=1, keepdims=True)).round(4).rename_axis("client")
    table = csv(tmp_path / "mixes.csv", mixes.to_csv())
    again = counts_of(labels, partition(scheme="distribution", clients=20, distribution=table))
    np.testing.assert_array_equal(again, wide)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client,0,1\n0,0.5,0.5\n1,0.5,0.5\n", "has no column '2'; it needs client, 0, 1, 2"),
        ("client,0,1,2,3\n0,1,0,0,0\n1,1,0,0,0\n", "has a column '3', but the samples' labels are 0, 1, 2"),
        ("client,0,1,2\n0,1,0,0\n", "has 1 rows for 1 clients, but must have one for each client from 0 to 1"),
        ("client,0,1,2\n0,1,0,0\n0,1,0,0\n", "has 2 rows for 1 clients"),
        ("client,0,1,2\n0,1,0,0\n1,1.5,-0.5,0\n", "client 1: column '1' is '-0.5', which is not a proportion"),
        ("client,0,1,2\n0,1,0,0\n1,nan,0,0\n", "client 1: column '0' is 'nan', which is not a proportion"),
        ("client,0,1,2\n0,0.5,0.5,0\n1,0.5,0.4,0\n", "mixes.csv: the proportions of client 1 sum to 0.9, but must"),
    ],
)
def test_distribution_refuses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(LABELS, proportions(tmp_path, text))
