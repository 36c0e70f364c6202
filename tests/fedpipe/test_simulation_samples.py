"""Tables and arrays of numbers in `fedpipe.simulate`: as a data set of the same rows has them, and refusals by name."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

import fedpipe
from fedpipe.errors import PipelineError
from fedpipe.simulation_samples import described
from tests.fedpipe.training import same_bits

ROWS, NUMBERS = np.arange(12.0).reshape(4, 3), np.array([0.5, 1.5, 2.0, 4.0])
IMAGES = np.zeros((4, 5, 5, 1), np.uint8)


def test_a_table_is_classified_wherever_it_comes_from(tmp_path: Any) -> None:
    """A DataFrame and the array of its numbers, which is rounded to float32 first; both predict rows as they are."""
    table, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    clients = np.array_split(np.arange(400), 4)
    settings = fedpipe.train_settings(
        model="logistic_regression", rounds=2, client_optimizer={"learning_rate": 0.1}, evaluate_every=2
    )

    def simulated(rows: Any, labels: Any) -> fedpipe.Simulation:
        return fedpipe.simulate(
            rows[:400],
            labels[:400],
            clients,
            settings,
            standardise="training",
            test=(rows[400:], labels[400:]),
            progress=False,
        )

    result, again = simulated(table, labels), simulated(table.to_numpy(), labels.to_numpy())
    for mine, other in zip(result.weights, again.weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    probabilities = result.predict(table[400:])
    np.testing.assert_allclose(probabilities, again.predict(table[400:].to_numpy()), atol=1e-4)
    accuracy = (probabilities.argmax(axis=1) == labels[400:]).mean()
    assert accuracy == result.rounds[-1].test_accuracy > 0.9
    fedpipe.save_weights(tmp_path / "weights.safetensors", result.network, result.weights)
    model, weights = fedpipe.load_weights(tmp_path / "weights.safetensors")
    assert model.spec == result.network.spec and same_bits(weights, result.weights)


def test_columns_labels_and_standardisation() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 6.0], "b": ["y", "x", "y", "y"], "c": [True, False, True, True]})
    made = described(table, NUMBERS, None, "training")
    np.testing.assert_allclose(made.samples[:, 0], (table["a"] - 3) / table["a"].std(ddof=0), rtol=1e-6)
    np.testing.assert_array_equal(made.samples[:, 1:], [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]])
    assert made.labels.shape == (4, 1) and made.kind.outputs == 1 and made.kind.label_kind == "numbers"
    np.testing.assert_array_equal(made.measured("test", (table[:2], NUMBERS[:2]))[0], made.samples[:2])
    rows = described(ROWS, np.array([0, 1, 2, 1]), 5, None)
    assert (rows.classes, rows.samples.dtype, rows.labels.dtype) == (5, np.float32, np.uint8)
    pixels = described(
        IMAGES + np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), np.zeros(4, np.uint8), None, "training"
    )
    assert pixels.kind.is_image and pixels.format.standard is not None
    np.testing.assert_allclose(pixels.format.standard.means, [1.5 / 255])


REFUSED = {
    "labels as words": (ROWS, np.array(["a", "b", "a", "b"]), r"np\.unique\(labels, return_inverse=True\)"),
    "too few labels": (ROWS, NUMBERS[:3], r"integers \[4\] for classes, or floats"),
    "classes of images as int64": (IMAGES, np.zeros(4, np.int64), r"labels\.astype\(np\.uint8\)"),
    "many classes": (ROWS, np.array([0, 1, 2, 300]), "classes from 0 to 255"),
    "missing numbers": (np.where(ROWS > 5, np.nan, ROWS), NUMBERS, "missing or infinite"),
    "a missing value of a table": (pd.DataFrame({"a": [1.0, np.nan, 2.0, 3.0]}), NUMBERS, "column 'a' has no value"),
    "columns without names": (pd.DataFrame(ROWS), NUMBERS, "a name for each column"),
    "missing labels": (ROWS, np.array([1.0, np.nan, 2.0, 3.0]), "labels are missing or infinite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_neither_is_rejected_by_name(case: str) -> None:
    samples, labels, reason = REFUSED[case]
    with pytest.raises(PipelineError, match=reason):
        described(samples, labels, None, None)


def test_samples_to_measure_on_are_of_the_same_kind() -> None:
    made = described(ROWS, np.array([0, 1, 2, 1]), None, None)
    for pair, reason in (
        ((ROWS[:, :2], np.zeros(4, int)), r"samples of \(2,\); the model takes"),
        ((ROWS, NUMBERS), "test labels must be uint8, as the training labels are"),
        ((ROWS, np.full(4, 3)), "labels go up to 3, and there are 3 classes"),
        ((ROWS[:0], np.zeros(0, int)), "test has no sample"),
        (ROWS, "must be a pair"),
    ):
        with pytest.raises(PipelineError, match=reason):
            made.measured("test", pair)
