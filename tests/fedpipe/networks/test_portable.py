"""Models for other runtimes: the same predictions, in ops and layers that others know."""

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import MODELS
from fedpipe.errors import PipelineError
from fedpipe.networks.network import Network, Weights, network
from fedpipe.networks.portable import keras_model, plain_model
from fedpipe.networks.spec import ModelSpec
from fedpipe.samples.kind import Format, Numbers, Standard

OF_IMAGES = [name for name in MODELS.names if name not in ("keras_file", "bag_of_tokens")]


def trained(spec: ModelSpec) -> tuple[Network, Weights]:
    """A model with weights none of which is zero."""
    model, rng = network(spec), np.random.default_rng(1)
    return model, [rng.normal(0, 0.1, shape).astype(np.float32) for shape in model.shapes.values()]


def images(side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, side, side, 1), np.uint8)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_plain_ops_predict_the_same_without_ops_of_one_library(name: str) -> None:
    model, weights = trained(ModelSpec(name, (28, 28, 1), 10))
    predict = plain_model(model, weights).predict
    np.testing.assert_allclose(
        predict(tf.constant(images()))["probabilities"], model.predictor(weights)(images()), atol=1e-6
    )
    assert not [op.type for op in predict.get_concrete_function().graph.get_operations() if "Mkl" in op.type]


def test_training_keeps_its_own_ops_beside_plain_ones() -> None:
    model, weights = trained(ModelSpec("baseline_cnn", (28, 28, 1), 10))
    plain_model(model, weights)
    assert [op.type for op in model._logits.graph.get_operations() if "Mkl" in op.type]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_layers_of_keras_predict_the_same(name: str) -> None:
    side = 21  # with an odd side poolings leave out a row and a column
    model, weights = trained(ModelSpec(name, (side, side, 1), 10))
    keras = keras_model(model, weights)
    np.testing.assert_allclose(keras(images(side)), model.predictor(weights)(images(side)), atol=1e-5)
    assert keras.input.dtype == tf.uint8 and keras.output_names == ["probabilities"]


def test_images_are_standardised_by_the_model_wherever_it_runs() -> None:
    standard = Standard(means=(0.25,), deviations=(0.5,))
    model, weights = trained(ModelSpec("logistic_regression", (28, 28, 1), 10, format=Format(standard=standard)))
    plain, _ = trained(ModelSpec("logistic_regression", (28, 28, 1), 10))
    outputs = ((images() / 255.0 - 0.25) / 0.5).reshape(50, -1) @ weights[0] + weights[1]
    np.testing.assert_allclose(model.classifier(weights)(images()), outputs, atol=1e-4)
    assert abs(plain.classifier(weights)(images()) - outputs).max() > 0.1
    expected = model.predictor(weights)(images())
    np.testing.assert_allclose(plain_model(model, weights).predict(images())["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(keras_model(model, weights)(images()), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "loss"), [("mlp", "squared_error"), ("linear_regression", "binary_cross_entropy")])
def test_numbers_come_out_as_predictions(name: str, loss: str) -> None:
    numbers = Numbers(variances=(1.0, 2.0), edges=(0.5,))
    spec = ModelSpec(name, (4,), 0, loss=loss, format=Format(samples="float32", numbers=numbers))
    model, weights = trained(spec)
    samples = np.random.default_rng(0).standard_normal((20, 4), np.float32)
    expected = model.predictor(weights)(samples)
    np.testing.assert_allclose(plain_model(model, weights).predict(samples)["numbers"], expected, atol=1e-6)
    np.testing.assert_allclose(keras_model(model, weights)(samples), expected, atol=1e-6)


def test_a_model_without_layers_of_keras_says_what_is_possible() -> None:
    spec = ModelSpec("bag_of_tokens", (6,), 3, format=Format(samples="int32", tokens=9))
    model, weights = trained(spec)
    with pytest.raises(PipelineError, match=r"bag_of_tokens has no form in Keras's own layers.*savedmodel, tflite"):
        keras_model(model, weights)
    samples = np.random.default_rng(0).integers(0, 9, (20, 6), np.int32)
    predict = plain_model(model, weights).predict
    np.testing.assert_allclose(predict(samples)["probabilities"], model.predictor(weights)(samples), atol=1e-6)
