"""Requests with rows of a table or other arrays: what is read of them, and what is refused in one sentence."""

import json
from typing import Any

import numpy as np
import pytest

from operations.serve.scoring_app import BadRequest, _array, _rows

IS_TEXT = {"age": False, "city": True}


def body(content: Any) -> bytes:
    return json.dumps({"inputs": content}).encode()


def test_rows_become_a_table_with_the_columns_of_the_model() -> None:
    table = _rows(body([{"city": "Bern", "age": 3}, {"age": 4.5}, {"city": 7, "age": None}]), IS_TEXT)
    assert list(table) == ["age", "city"] and table["age"].dtype == float
    np.testing.assert_array_equal(table["age"], [3, 4.5, np.nan])
    assert table["city"].tolist() == ["Bern", None, "7"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "the request has no list of rows"),
        ([3], "row 0 is no object of columns"),
        ([{"age": 1}, {"ward": 1}], "row 1 has the column 'ward', which the model does not know"),
        ([{"age": "old"}], "row 0 has in column 'age' a value that is no number"),
        ([{"age": True}], "row 0 has in column 'age' a value that is no number"),
        ([{"city": ["Bern"]}], "row 0 has in column 'city' a value that is no text"),
    ],
)
def test_rows_that_do_not_fit_are_refused(content: Any, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        _rows(body(content), IS_TEXT)


def test_arrays_become_samples_of_the_type_of_the_model() -> None:
    samples = _array(body([[1, 2.5], [3, 4]]), (2,), np.float32)
    np.testing.assert_array_equal(samples, np.float32([[1, 2.5], [3, 4]]))
    assert samples.dtype == np.float32
    assert _array(body([[1, 2]]), (2,), np.int32).dtype == np.int32


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        ([[1, 2, 3]], np.float32, "sample 0 is no 2 numbers; the model takes float32"),
        ([[1, [2]]], np.float32, "sample 0 is not nested lists of one size"),
        ([[1, 2], ["a", "b"]], np.float32, "sample 1 is no 2 numbers"),
        ([[1, 2.5]], np.int32, "sample 0 is no 2 numbers; the model takes int32"),
        ([[-1, 2]], np.int32, "or are below 0"),
        ([], np.int32, "the request has no list of samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(content: Any, kind: type, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        _array(body(content), (2,), kind)
