"""Kinds of data: bins of numbers, standardising, and descriptions that images do not change."""

from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.samples.inputs import samples_of
from fedpipe.samples.kind import PIXELS, Format, Kind, Numbers, Standard
from fedpipe.samples.moments import mean_and_deviation, median
from tests.fedpipe.training import train_settings

NUMBERS = Format(samples="float32", numbers=Numbers(variances=(4.0, 1.0), edges=(0.0, 5.0)))


def test_bins_have_even_sizes_and_equal_labels_share_one() -> None:
    labels = np.random.default_rng(0).permutation(1000).astype(np.float32)[:, None]
    assert np.bincount(Numbers.of(labels, (1.0,)).bins(labels)).tolist() == [100] * 10
    tied = np.repeat(np.float32([1, 1, 1, 1, 7]), 100)[:, None]
    assert np.bincount(Numbers.of(tied, (1.0,)).bins(tied)).tolist() == [400, 100]


def test_moments_do_not_depend_on_the_order() -> None:
    values = np.random.default_rng(1).normal(1e6, 1, 10_001) ** 3
    shuffled = np.random.default_rng(2).permutation(values)
    assert mean_and_deviation(values) == mean_and_deviation(shuffled)
    np.testing.assert_allclose(mean_and_deviation(values), (values.mean(), values.std()), rtol=1e-9)
    assert mean_and_deviation(np.full(5, 0.1)) == (0.1, 1.0) and median(np.array([3.0, 1.0, 2.0, 9.0])) == 2.0


def test_a_description_of_images_is_what_it_was() -> None:
    spec = ModelSpec("baseline_cnn", (28, 28, 1), 10)
    assert spec.to_json() == {"model": "baseline_cnn", "image_shape": [28, 28, 1], "classes": 10}
    assert spec.kind.is_image and str(spec.kind) == "images (28, 28, 1) of 10 classes"


def test_a_model_of_numbers_is_read_as_it_was_written() -> None:
    spec = ModelSpec("mlp", (7,), 0, loss="huber", format=NUMBERS)
    assert ModelSpec.from_json(spec.to_json()) == spec and network(spec).spec.outputs == 2


@pytest.mark.parametrize(
    ("model", "shape", "classes", "loss", "described", "sentence"),
    [
        ("baseline_cnn", (30,), 2, "cross_entropy", PIXELS, "'train.model' is baseline_cnn, which takes images, but"),
        (
            "mlp",
            (30,),
            0,
            "cross_entropy",
            NUMBERS,
            "'train.loss' is cross_entropy, but the data set's labels are numbers",
        ),
        ("mlp", (30,), 2, "huber", PIXELS, "'train.loss' is huber, but the data set's labels are classes"),
        ("mlp", (30,), 3, "binary_cross_entropy", PIXELS, "which is for 2 classes, and the data set has 3"),
        ("bag_of_tokens", (30,), 3, "cross_entropy", PIXELS, "bag_of_tokens, which takes int32 samples"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    model: str, shape: tuple[int, ...], classes: int, loss: str, described: Format, sentence: str
) -> None:
    with pytest.raises(PipelineError) as refused:
        network(ModelSpec(model, shape, classes, loss=loss, format=described))
    assert sentence in str(refused.value)


def test_goodness_of_numbers_is_r_squared() -> None:
    model = network(ModelSpec("mlp", (7,), 0, loss="squared_error", format=NUMBERS))
    labels, outputs = np.random.default_rng(3).normal(size=(2, 9, 2)).astype(np.float32)
    wanted = 1 - (np.square(labels - outputs) / [4.0, 1.0]).mean(axis=1)
    np.testing.assert_allclose(model.goodness(labels, outputs), wanted, rtol=1e-5)


def test_tokens_are_averaged_without_padding() -> None:
    spec = ModelSpec("bag_of_tokens", (4,), 3, format=Format(samples="int32", tokens=6))
    model = network(spec)
    weights = model.first_weights(np.random.default_rng(0))
    samples = np.array([[1, 2, 0, 0], [5, 5, 5, 5], [0, 0, 0, 0]], np.int32)
    means = np.stack([weights[0][[1, 2]].mean(axis=0), weights[0][5], np.zeros(32)])
    np.testing.assert_allclose(model.classifier(weights)(samples), means @ weights[1] + weights[2], atol=1e-6)


def test_arrays_for_a_model_are_checked_and_standardised() -> None:
    described = Format(samples="float32", standard=Standard(means=(1.0, 2.0), deviations=(2.0, 4.0)))
    kind = Kind((2,), 2, described)
    np.testing.assert_array_equal(samples_of(kind, np.array([[3.0, 2.0]]), "x"), np.float32([[1, 0]]))
    for wrong in (np.array([[np.nan, 1]]), np.zeros((1, 3)), np.array([["a", "b"]])):
        with pytest.raises(PipelineError, match="x has "):
            samples_of(kind, wrong, "x")
    with pytest.raises(PipelineError, match="no integers from 0 to 5"):
        samples_of(Kind((2,), 2, Format(samples="int32", tokens=6)), np.array([[6, 1]]), "x")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attack": "label_flip", "attackers": 0.1}, "'train.attack' is label_flip, which is for classes"),
        ({"attack": "backdoor", "attackers": 0.1}, "'train.attack' is backdoor, which is for images"),
        (
            {"metrics": ["top_3_accuracy"]},
            "'train.metrics' names top_3_accuracy, but the data set's labels are numbers",
        ),
    ],
)
def test_choices_that_do_not_fit_the_data_are_refused(changes: dict[str, Any], sentence: str) -> None:
    settings = train_settings(model="mlp", loss="squared_error", **changes)
    with pytest.raises(PipelineError) as refused:
        ModelSpec.of(settings, (7,), 0, NUMBERS)
    assert sentence in str(refused.value)
