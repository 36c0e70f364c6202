"""The figures of an evaluation, on predictions whose figures one can work out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.measures import confusion, logits_in_batches, mean_loss, per_class
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec


def test_by_hand() -> None:
    actual, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    counts = confusion(actual, predicted, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    table = per_class(counts)
    assert table["precision"].tolist() == [1 / 3, 2 / 3, 0, 0]  # nothing was predicted as 2 or 3
    assert table["recall"].tolist()[:3] == [1 / 2, 2 / 3, 0]
    assert np.isnan(table["recall"][3]) and table.to_csv(index=False).endswith("\n3,0.0,,0\n")  # no image of class 3
    assert table["support"].tolist() == [2, 3, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_confusion_counts_everything_once(pairs: list[tuple[int, int]]) -> None:
    actual, predicted = np.array(pairs).T
    counts = confusion(actual, predicted, 5)
    assert counts.sum() == len(pairs) and counts.trace() == (actual == predicted).sum()
    table = per_class(counts)
    assert (table["precision"] <= 1).all() and (table["recall"].dropna() <= 1).all()
    assert (table["recall"].isna() == (table["support"] == 0)).all()


def test_mean_loss() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32))
    model = network(ModelSpec("logistic_regression", (28, 28, 1), 3))
    assert mean_loss(model, logits, np.array([0, 2])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_cover_all_images_in_order(batch_size: int) -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    np.testing.assert_array_equal(
        logits_in_batches(lambda batch: batch.reshape(-1, 1).astype(np.float32), images, batch_size).ravel(),
        np.arange(10),
    )


def test_accuracy_per_client(make_shards, training_set) -> None:  # type: ignore[no-untyped-def]
    folder = make_shards([10, 0, 25])
    always_the_label_five = [np.zeros((784, 10), np.float32), np.eye(10, dtype=np.float32)[5]]
    model = network(ModelSpec("logistic_regression", (28, 28, 1), 10))
    table = accuracy_per_client(model, always_the_label_five, folder, 3, 4)
    fives = training_set[1] == 5
    assert table["client"].tolist() == [0, 1, 2] and table["samples"].tolist() == [10, 0, 25]
    assert table["accuracy"][0] == fives[:10].mean() and table["accuracy"][2] == fives[10:35].mean()
    assert np.isnan(table["accuracy"][1])
